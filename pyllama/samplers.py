"""The samplers of llama.cpp, as values to build a ``SamplerChain`` from.

    chain = SamplerChain([samplers.top_k(40), samplers.temp(0.8), samplers.dist(seed=1)])

A sampler here is a description: it can be kept, compared and used in any number of chains. Values are checked
when a chain is made. ``greedy``, ``dist``, ``mirostat``, ``mirostat_v2`` and ``adaptive_p`` select the token
and come last; so may ``custom``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from pyllama._core._llama import Vocab

__all__ = [
    "Candidates",
    "Sampler",
    "adaptive_p",
    "custom",
    "dist",
    "dry",
    "grammar",
    "grammar_lazy",
    "greedy",
    "infill",
    "logit_bias",
    "min_p",
    "mirostat",
    "mirostat_v2",
    "penalties",
    "temp",
    "temp_ext",
    "top_k",
    "top_n_sigma",
    "top_p",
    "typical",
    "xtc",
]


@dataclass(frozen=True, slots=True)
class Sampler:
    """One sampler's name and arguments; ``vocab`` when it works on a model's tokens. Made by this module."""

    name: str
    args: tuple[Any, ...] = ()
    vocab: Vocab | None = None


class Candidates(NamedTuple):
    """What a chain leaves of a row of logits, from ``SamplerChain.apply``, in the order that it gave.

    ``ids`` is int32, ``logits`` and the probabilities ``p`` are float32, all of shape (n,); tokens at -inf
    are left out. ``selected`` is the token that the chain selected, None where it selects none.
    """

    ids: npt.NDArray[np.int32]
    logits: npt.NDArray[np.float32]
    p: npt.NDArray[np.float32]
    selected: int | None


def greedy() -> Sampler:
    """Select the most likely token."""
    return Sampler("greedy")


def dist(seed: int | None = None) -> Sampler:
    """Select a token at random, by its probability; ``seed`` in [0, 2³² - 1), None for a random one."""
    return Sampler("dist", (seed,))


def top_k(k: int) -> Sampler:
    """Keep the ``k`` most likely tokens; 0 or -1 keeps all.

    https://arxiv.org/abs/1904.09751
    """
    return Sampler("top_k", (k,))


def top_p(p: float, min_keep: int = 1) -> Sampler:
    """Keep the most likely tokens that together reach probability ``p``.

    https://arxiv.org/abs/1904.09751
    """
    return Sampler("top_p", (p, min_keep))


def min_p(p: float, min_keep: int = 1) -> Sampler:
    """Keep tokens of at least ``p`` times the best probability.

    https://github.com/ggml-org/llama.cpp/pull/3841
    """
    return Sampler("min_p", (p, min_keep))


def typical(p: float, min_keep: int = 1) -> Sampler:
    """Keep locally typical tokens up to probability ``p``.

    https://arxiv.org/abs/2202.00666
    """
    return Sampler("typical", (p, min_keep))


def temp(t: float) -> Sampler:
    """Divide the logits by ``t``; 0 keeps the most likely token only."""
    return Sampler("temp", (t,))


def temp_ext(t: float, delta: float, exponent: float = 1.0) -> Sampler:
    """Divide the logits by a temperature in ``t`` ± ``delta`` that follows the entropy.

    https://arxiv.org/abs/2309.02772
    """
    return Sampler("temp_ext", (t, delta, exponent))


def xtc(p: float, threshold: float, min_keep: int = 1, seed: int | None = None) -> Sampler:
    """With probability ``p``, drop all but the last token above ``threshold``.

    https://github.com/oobabooga/text-generation-webui/pull/6335
    """
    return Sampler("xtc", (p, threshold, min_keep, seed))


def top_n_sigma(n: float) -> Sampler:
    """Keep logits within ``n`` standard deviations of the best; 0 or less keeps all.

    https://arxiv.org/abs/2411.07641
    """
    return Sampler("top_n_sigma", (n,))


def mirostat(
    vocab: Vocab, tau: float = 5.0, eta: float = 0.1, m: int = 100, seed: int | None = None
) -> Sampler:
    """Select a token so that the surprise stays near ``tau``.

    https://arxiv.org/abs/2007.14966
    """
    return Sampler("mirostat", (tau, eta, m, seed), vocab)


def mirostat_v2(tau: float = 5.0, eta: float = 0.1, seed: int | None = None) -> Sampler:
    """Select a token so that the surprise stays near ``tau``, by Mirostat 2.0.

    https://arxiv.org/abs/2007.14966
    """
    return Sampler("mirostat_v2", (tau, eta, seed))


def adaptive_p(target: float, decay: float = 0.9, seed: int | None = None) -> Sampler:
    """Select tokens near probability ``target`` over time; ``decay`` in [0, 0.99].

    https://github.com/ggml-org/llama.cpp/pull/17927
    """
    return Sampler("adaptive_p", (target, decay, seed))


def penalties(last_n: int = 64, repeat: float = 1.0, freq: float = 0.0, present: float = 0.0) -> Sampler:
    """Make the last ``last_n`` tokens less likely; 1 for ``repeat`` and 0 for the others disable."""
    return Sampler("penalties", (last_n, repeat, freq, present))


def dry(
    vocab: Vocab,
    multiplier: float,
    base: float = 1.75,
    allowed_length: int = 2,
    last_n: int = 1024,
    seq_breakers: Sequence[str] = ("\n", ":", '"', "*"),
) -> Sampler:
    """Make tokens that would repeat a sequence less likely.

    https://github.com/oobabooga/text-generation-webui/pull/5677
    """
    return Sampler("dry", (multiplier, base, allowed_length, last_n, tuple(seq_breakers)), vocab)


def logit_bias(vocab: Vocab, bias: Mapping[int, float]) -> Sampler:
    """Add a value to the logits of some tokens; ``-inf`` forbids one."""
    return Sampler("logit_bias", (dict(bias),), vocab)


def grammar(vocab: Vocab, text: str, root: str = "root") -> Sampler:
    """Allow only what a GBNF grammar allows, from its rule ``root``."""
    return Sampler("grammar", (text, root, None, ()), vocab)


def grammar_lazy(
    vocab: Vocab,
    text: str,
    root: str = "root",
    *,
    trigger_patterns: Sequence[str] = (),
    trigger_tokens: Sequence[int] = (),
) -> Sampler:
    """A GBNF grammar that begins to rule when the output matches a pattern or holds a token.

    The grammar sees the text from a pattern's first group on, or from the token on.
    """
    return Sampler("grammar", (text, root, tuple(trigger_patterns), tuple(trigger_tokens)), vocab)


def infill(vocab: Vocab) -> Sampler:
    """Prefer to end a fill-in-the-middle text; comes after top_k and top_p.

    It compares all pairs of candidates, of which it takes at most 4,096.
    """
    return Sampler("infill", (), vocab)


def custom(fn: Callable[[npt.NDArray[np.float32], npt.NDArray[np.int32]], int | None]) -> Sampler:
    """A sampler in Python: ``fn(logits, ids)`` gets the candidates that the samplers before it left.

    ``logits`` is a writable float32 view of shape (n,), without a copy, and what is written there is what
    the next sampler sees; -inf forbids a token. ``ids`` are the candidates' tokens, int32, read-only. With
    nothing before it, ``ids[i] == i`` and n is the size of the vocabulary; after top_k, top_p and the like
    there are fewer, best first or in no order. Both are strided, and keep their values after the call.

    ``fn`` returns None, or the token that it selects, if it is the last sampler. What it raises comes out
    of the chain's call, and the chain stays usable. It holds the GIL and must not use its own chain. ``fn``
    may be an object that also has methods accept(token), reset() and clone(), which the chain calls for its
    own; clones share an ``fn`` without clone().
    """
    return Sampler("custom", (fn,))
