"""The fuzz test's calls of sampler chains. Numbers choose samplers, arguments and rows, good and bad ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pyllama import SamplerChain, Vocab, samplers
from pyllama.samplers import Sampler

if TYPE_CHECKING:
    from fuzz_worker import Handles

REALS = [0.5, 0.0, 1.0, 0.9, 2.0, -1.0, 1e-6, 1e-30, 1e6, 3e38, math.inf, -math.inf, math.nan]
GRAMMARS = [
    'root ::= [a-z]{1,4} "."',
    'root ::= "What" | "1"+ root?',
    "root ::= .*",
    'root ::= ("a" | "b"){0,9} ("c"{2,3}){1,4}',
    'root ::= "a"{5,2}',
    "root ::= (",
    "root ::= other",
    "root ::= <[4]> <[99999]>* !<[5]>",
    'root ::= "\u00e4\u20ac"+',
    "",
]
PATTERNS = [r"(a)", r"[\s\S]*?(\d)[\s\S]*", "^x$", "(", "(a|b)*c"]


def real(n: int) -> float:
    return REALS[n % len(REALS)]


def forbid(logits: npt.NDArray[np.float32], ids: npt.NDArray[np.int32]) -> None:
    logits[: len(logits) // 2] = -np.inf


def spoil(logits: npt.NDArray[np.float32], ids: npt.NDArray[np.int32]) -> None:
    logits[-1] = np.nan


def select(logits: npt.NDArray[np.float32], ids: npt.NDArray[np.int32]) -> int:
    return int(ids[logits.argmax()])


def fail(logits: npt.NDArray[np.float32], ids: npt.NDArray[np.int32]) -> None:
    raise ValueError("on purpose")


CUSTOMS = [forbid, spoil, select, fail, lambda logits, ids: 1 << 40, lambda logits, ids: logits.sort()]


def make_sampler(vocab: Vocab, kind: int, a: int, b: int, c: int) -> Sampler:
    """Return a sampler whose arguments the numbers choose."""
    makers: list[Callable[[], Sampler]] = [
        samplers.greedy,
        lambda: samplers.dist(a),
        lambda: samplers.top_k(a),
        lambda: samplers.top_p(real(a), b),
        lambda: samplers.min_p(real(a), b),
        lambda: samplers.typical(real(a), b),
        lambda: samplers.temp(real(a)),
        lambda: samplers.temp_ext(real(a), real(b), real(c)),
        lambda: samplers.xtc(real(a), real(b), c, seed=a),
        lambda: samplers.top_n_sigma(real(a)),
        lambda: samplers.mirostat(vocab, real(a), real(b), c, seed=1),
        lambda: samplers.mirostat_v2(real(a), real(b), seed=c),
        lambda: samplers.adaptive_p(real(a), real(b), seed=c),
        lambda: samplers.penalties(a, real(b), real(c), real(a + b)),
        lambda: samplers.dry(vocab, real(a), real(b), c, a, ["\n", "What", "", "\x7f" * (abs(b) % 99)]),
        lambda: samplers.logit_bias(vocab, {a: real(b), c: real(a)}),
        lambda: samplers.logit_bias(vocab, dict.fromkeys(range(abs(a) % len(vocab)), real(b))),
        lambda: samplers.grammar(vocab, GRAMMARS[a % len(GRAMMARS)]),
        lambda: samplers.grammar_lazy(
            vocab,
            GRAMMARS[a % len(GRAMMARS)],
            trigger_patterns=PATTERNS[: b % len(PATTERNS)],
            trigger_tokens=[c],
        ),
        lambda: samplers.infill(vocab),
        lambda: samplers.custom(CUSTOMS[a % len(CUSTOMS)]),
    ]
    return makers[kind % len(makers)]()


def row(a: int, b: int, c: int) -> npt.NDArray[np.float32]:
    """Return a row of logits: of the vocabulary's size or another, with a value of any kind somewhere."""
    n = 623 if a % 3 else abs(b) % 3000
    logits = np.random.default_rng(abs(c)).normal(size=n).astype(np.float32) * 4
    if n:
        logits[abs(b) % n :: 7] = real(c)
    return logits


def chain_new(handles: Handles, a: int, b: int, c: int) -> None:
    vocab = handles.model.vocab
    recipe = [make_sampler(vocab, kind, a + kind, b, c) for kind in {a, b, c}]
    try:
        chain = SamplerChain(recipe)
    except TypeError:
        chain = SamplerChain()
    handles.replace_chain(chain)


def chain_good(handles: Handles, a: int, b: int, c: int) -> None:
    vocab = handles.model.vocab
    recipes = [
        [samplers.greedy()],
        [samplers.top_k(5), samplers.temp(0.7), samplers.dist(1)],
        [samplers.grammar(vocab, 'root ::= [a-z]{1,4} "."'), samplers.top_p(0.9), samplers.dist(1)],
        [samplers.penalties(8, 1.2), samplers.adaptive_p(0.4, seed=1)],
        [samplers.temp(1.5), samplers.mirostat(vocab, seed=3)],
        [samplers.dry(vocab, 0.8), samplers.xtc(0.5, 0.1), samplers.custom(select)],
    ]
    handles.replace_chain(SamplerChain(recipes[a % len(recipes)]))


def graph_chain(handles: Handles, a: int, b: int, c: int) -> None:
    """Samplers for the graph in any order, and now and then some that cannot run there."""
    vocab = handles.model.vocab
    able = [
        samplers.logit_bias(vocab, {abs(b) % len(vocab): real(c)}),
        samplers.penalties(abs(b) % 9, 1.2, 0.1),
        samplers.top_k(abs(c) % 40),
        samplers.top_p([0.9, 0.0, 1.0][c % 3]),
        samplers.min_p([0.1, 0.0, 1.0][b % 3]),
        samplers.temp([0.7, 0, 1e-6, 1e6][b % 4]),
        samplers.temp_ext([0.9, 0][c % 2], [0.5, 0][b % 2]),
    ]
    chosen = [sampler for i, sampler in enumerate(able) if a >> i & 1]
    chosen = chosen[b % 7 :] + chosen[: b % 7]
    last = [samplers.dist(a), samplers.greedy(), make_sampler(vocab, a, b, c, a)]
    handles.context.set_sampler(abs(b) % 3, [*chosen, *last[c % 4 : c % 4 + 1]])


def graph_good(handles: Handles, a: int, b: int, c: int) -> None:
    vocab = handles.model.vocab
    recipes = [
        [samplers.top_k(1 + abs(b) % 9), samplers.temp(0.7), samplers.dist(1)],
        [samplers.logit_bias(vocab, {3: 1.0, 4: -math.inf}), samplers.penalties(8, 1.2), samplers.greedy()],
        [samplers.top_p(0.9), samplers.temp_ext(0.9, 0.5), samplers.penalties(5, 1.5, 0.5), samplers.dist(1)],
        [samplers.min_p(0.1), samplers.top_k(3)],
        [samplers.temp(0), samplers.temp_ext(0.9, 0.5), samplers.top_p(0.5), samplers.dist(2)],
    ]
    handles.context.set_sampler(abs(c) % 3, recipes[a % len(recipes)])


def chain_append(handles: Handles, a: int, b: int, c: int) -> None:
    handles.chain.append(make_sampler(handles.model.vocab, a, b, c, a))


def chain_insert(handles: Handles, a: int, b: int, c: int) -> None:
    handles.chain.insert(a, make_sampler(handles.model.vocab, b, c, a, b))


def chain_look(handles: Handles, a: int, b: int, c: int) -> None:
    chain = handles.chain
    assert len(chain.names) == len(list(chain))
    repr((chain, chain.seed, chain.perf(), chain.closed, chain[a]))


def chain_clone(handles: Handles, a: int, b: int, c: int) -> None:
    handles.replace_chain(handles.chain.clone())


CALLS: dict[str, Callable[[Handles, int, int, int], object]] = {
    "graph_chain": graph_chain,
    "graph_good": graph_good,
    "chain_new": chain_new,
    "chain_good": chain_good,
    "chain_append": chain_append,
    "chain_insert": chain_insert,
    "chain_remove": lambda handles, a, b, c: handles.chain.remove(a),
    "chain_look": chain_look,
    "chain_clone": chain_clone,
    "chain_close": lambda handles, a, b, c: handles.chain.close() if a % 9 == 0 else None,
    "sample": lambda handles, a, b, c: handles.chain.sample(handles.context, a if a % 5 == 0 else -1),
    "sample_row": lambda handles, a, b, c: handles.chain.sample_row(row(a, b, c)),
    "apply": lambda handles, a, b, c: handles.chain.apply(row(a, b, c)),
    "accept": lambda handles, a, b, c: handles.chain.accept(a),
    "reset": lambda handles, a, b, c: handles.chain.reset(),
}
