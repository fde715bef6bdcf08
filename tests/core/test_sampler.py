from collections.abc import Callable

import numpy as np
import pytest

import pyllama
from pyllama import Batch, Context, Model, SamplerChain, Vocab, samplers
from pyllama.models import demo_model_path


def all_samplers(vocab: Vocab) -> list[samplers.Sampler]:
    return [
        samplers.logit_bias(vocab, {1: -float("inf"), 2: 0.5}),
        samplers.penalties(64, 1.1, 0.1, 0.1),
        samplers.dry(vocab, 0.8),
        samplers.top_n_sigma(1.0),
        samplers.top_k(40),
        samplers.typical(0.9),
        samplers.top_p(0.95),
        samplers.min_p(0.05),
        samplers.xtc(0.5, 0.1, seed=1),
        samplers.temp(0.8),
        samplers.temp_ext(0.8, 0.1),
        samplers.infill(vocab),
    ]


def test_every_sampler_runs(ready: Context, vocab: Vocab) -> None:
    for last in (
        samplers.greedy(),
        samplers.dist(1),
        samplers.mirostat(vocab, seed=1),
        samplers.mirostat_v2(seed=1),
        samplers.adaptive_p(0.3, seed=1),
    ):
        with SamplerChain([*all_samplers(vocab), last]) as chain:
            assert 0 <= chain.sample(ready) < len(vocab)
            chain.accept(3)
            chain.reset()
            assert 0 <= chain.sample(ready) < len(vocab)


def test_reads_like_a_sequence(vocab: Vocab) -> None:
    chain = SamplerChain([samplers.top_k(40), samplers.temp(0.8), samplers.dist(1)])
    assert len(chain) == 3
    assert chain.names == ("top_k", "temp", "dist")
    assert list(chain) == [samplers.top_k(40), samplers.temp(0.8), samplers.dist(1)]
    assert chain[-1] == samplers.dist(1)
    for index in (3, -4, 1 << 70):
        with pytest.raises(IndexError, match=f"no sampler {index} in a chain of 3"):
            chain[index]
        with pytest.raises(IndexError, match=f"no sampler {index}"):
            chain.remove(index)
    assert samplers.top_k(40) == samplers.top_k(40) != samplers.top_k(41)


def test_seeds_and_clones(ready: Context) -> None:
    def draw(chain: SamplerChain) -> list[int]:
        return [chain.sample(ready) for _ in range(20)]

    recipe = [samplers.temp(5.0), samplers.dist(7)]
    chain = SamplerChain(recipe)
    first = draw(chain)
    assert len(set(first)) > 1
    assert draw(SamplerChain(recipe)) == first
    copy = chain.clone()
    assert draw(copy) == draw(chain) != first
    chain.reset()
    assert draw(chain) == first


def test_greedy_after_bias(ready: Context, vocab: Vocab) -> None:
    best = int(ready.logits().argmax())
    with SamplerChain([samplers.logit_bias(vocab, {best: -float("inf")}), samplers.greedy()]) as chain:
        assert chain.sample(ready) == int(np.argsort(ready.logits())[-2])


def test_grammar_rules_the_text(
    make_context: Callable[..., Context], vocab: Vocab, prompt: list[int]
) -> None:
    context = make_context()
    batch = Batch(len(prompt))
    batch.add_sequence(prompt, 0, 0)
    out: list[int] = []
    with SamplerChain([samplers.grammar(vocab, 'root ::= "ab" [0-9] "z"'), samplers.greedy()]) as chain:
        while True:
            context.decode(batch)
            token = chain.sample(context)
            if vocab.is_eog(token):
                break
            out.append(token)
            batch.clear()
            batch.add(token, len(prompt) + len(out) - 1, 0, logits=True)
    text = vocab.detokenize(out)
    assert len(text) == 4
    assert text[:2] == "ab"
    assert text[2].isdigit()
    assert text[3] == "z"


def test_grammar_refuses_instead_of_aborting(ready: Context, vocab: Vocab) -> None:
    assert vocab.eos is not None
    letter = int(vocab.tokenize("b")[0])
    with SamplerChain([samplers.grammar(vocab, 'root ::= "aaa"'), samplers.greedy()]) as chain:
        for token in (vocab.eos, letter):
            with pytest.raises(pyllama.InvalidRequestError, match=f"does not allow token {token}"):
                chain.accept(token)
        chain.accept(int(vocab.tokenize("a")[0]))
        with pytest.raises(pyllama.InvalidRequestError, match="does not allow"):
            chain.accept(vocab.eos)
        assert vocab.token_to_piece(chain.clone().sample(ready)).startswith(b"a")


def test_nothing_is_left(ready: Context, vocab: Vocab) -> None:
    ban = samplers.logit_bias(vocab, dict.fromkeys(range(len(vocab)), -float("inf")))
    with SamplerChain([ban, samplers.typical(0.9), samplers.dist(1)]) as chain:
        for _ in range(2):
            with pytest.raises(pyllama.EngineError, match="no token that is allowed"):
                chain.sample(ready)


def test_nan_is_refused(ready: Context) -> None:
    chain = SamplerChain([samplers.top_k(3), samplers.dist(1)])
    with ready.logits_view() as view:
        view[5] = float("nan")
    with pytest.raises(pyllama.EngineError, match="NaN"):
        chain.sample(ready)


def test_lazy_grammar_waits(ready: Context, vocab: Vocab) -> None:
    start = int(vocab.tokenize("<think>")[0])
    lazy = samplers.grammar_lazy(vocab, 'root ::= "<think>" "xyz"', trigger_tokens=[start])
    with SamplerChain([lazy, samplers.greedy()]) as chain:
        chain.accept(int(vocab.tokenize("q")[0]))
        chain.accept(start)
        with pytest.raises(pyllama.InvalidRequestError, match="does not allow"):
            chain.accept(int(vocab.tokenize("q")[0]))
        chain.accept(int(vocab.tokenize("x")[0]))


@pytest.mark.parametrize(
    ("text", "root", "message"),
    [
        ("root ::= (", "root", "cannot be parsed|failed to parse"),
        ('root ::= "a"', "start", "does not contain a 'start' symbol"),
        ("root ::= other", "root", "failed to parse"),
        ('root ::= root "a"', "root", "left recursion"),
        ("", "root", "empty"),
        ("   ", "root", "empty"),
        ('root ::= "a\0"', "root", "NUL"),
        ("root ::= " + "(" * 5000 + '"a"' + ")" * 5000, "root", "nests parentheses deeper"),
        ('root ::= "a"{5,2}', "root", "most is below its least"),
        ("root ::= <[99999999999999999999]>", "root", "grammar"),
        ("\n".join(f"r{i} ::= r{i + 1}" for i in range(20000)), "r0", "more than 8192 rules"),
    ],
)
def test_bad_grammars(vocab: Vocab, text: str, root: str, message: str) -> None:
    with pytest.raises(pyllama.InvalidRequestError, match=message):
        SamplerChain([samplers.grammar(vocab, text, root), samplers.greedy()])


def test_a_deep_chain_of_rules_fits_on_the_stack(vocab: Vocab) -> None:
    text = "\n".join(f"r{i} ::= r{i + 1}" for i in range(8000)) + '\nr8000 ::= "a"'
    SamplerChain([samplers.grammar(vocab, text, "r0"), samplers.greedy()]).close()


def test_parentheses_in_literals_are_no_nesting(vocab: Vocab) -> None:
    text = 'root ::= "' + "(" * 500 + r'\"(" [(\]("]{2} # ' + "(" * 500
    SamplerChain([samplers.grammar(vocab, text), samplers.greedy()]).close()


def test_bad_values_are_named(vocab: Vocab) -> None:
    nan = float("nan")
    for sampler, name in (
        (samplers.top_p(nan), "p"),
        (samplers.top_p(1.5), "p"),
        (samplers.min_p(0.5, 0), "min_keep"),
        (samplers.top_k(1 << 40), "k"),
        (samplers.temp(nan), "temp"),
        (samplers.temp(-1.0), "temp"),
        (samplers.temp(1e-30), "temp"),
        (samplers.penalties(1 << 30), "last_n"),
        (samplers.penalties(repeat=0.0), "repeat"),
        (samplers.penalties(freq=float("inf")), "freq"),
        (samplers.dist(-1), "seed"),
        (samplers.dry(vocab, nan), "multiplier"),
        (samplers.dry(vocab, 1.0, seq_breakers=["x"] * 257), "seq_breakers"),
        (samplers.dry(vocab, 1.0, last_n=-1), "last_n"),
        (samplers.penalties(-1), "last_n"),
        (samplers.xtc(2.0, 0.1), "p"),
        (samplers.typical(0.5, -1), "min_keep"),
        (samplers.temp_ext(0.8, nan), "delta"),
        (samplers.top_n_sigma(nan), "n"),
        (samplers.logit_bias(vocab, {len(vocab): 1.0}), "token"),
        (samplers.logit_bias(vocab, {0: nan}), "bias"),
        (samplers.grammar_lazy(vocab, 'root ::= "a"'), "trigger_patterns"),
        (samplers.grammar_lazy(vocab, 'root ::= "a"', trigger_patterns=["("]), "trigger_patterns"),
    ):
        with pytest.raises(pyllama.InvalidRequestError) as caught:
            SamplerChain([sampler] if sampler.name == "dist" else [sampler, samplers.greedy()])
        assert caught.value.param == name, sampler
    with pytest.raises(pyllama.InvalidRequestError, match="no sampler 'magic'"):
        SamplerChain([samplers.Sampler("magic"), samplers.greedy()])
    with pytest.raises(pyllama.InvalidRequestError, match="'infill' needs a vocab"):
        SamplerChain([samplers.Sampler("infill"), samplers.greedy()])


def test_a_chain_must_select(ready: Context) -> None:
    for recipe in ([], [samplers.top_k(3)]):
        with SamplerChain(recipe) as chain:
            for _ in range(2):
                with pytest.raises(pyllama.InvalidRequestError, match="no sampler of the chain selects"):
                    chain.sample(ready)
    for recipe in ([samplers.dist(1), samplers.greedy()], [samplers.greedy(), samplers.top_k(3)]):
        with pytest.raises(pyllama.InvalidRequestError, match="must be the last"):
            SamplerChain(recipe)
    with pytest.raises(TypeError, match="str"):
        SamplerChain(["greedy"])


def test_tokens_outside_are_named(vocab: Vocab) -> None:
    plain = SamplerChain([samplers.penalties(repeat=1.1), samplers.greedy()])
    with SamplerChain([samplers.grammar(vocab, 'root ::= "a"'), samplers.greedy()]) as bound:
        for chain in (plain, bound):
            for token in (-1, 1 << 31):
                with pytest.raises(pyllama.InvalidRequestError, match=f"token={token}"):
                    chain.accept(token)
        with pytest.raises(pyllama.InvalidRequestError, match="token="):
            bound.accept(len(vocab))


def test_a_closed_chain(ready: Context) -> None:
    chain = SamplerChain([samplers.greedy()])
    chain.close()
    chain.close()
    assert chain.closed
    for call in (lambda: chain.sample(ready), lambda: chain.accept(1), chain.reset, chain.clone):
        with pytest.raises(pyllama.ClosedError):
            call()


def test_a_chain_keeps_its_model(ready: Context) -> None:
    other = Model(demo_model_path(), vocab_only=True)
    chain = SamplerChain([samplers.grammar(other.vocab, 'root ::= "a"'), samplers.greedy()])
    with pytest.raises(pyllama.InvalidRequestError, match=r"SamplerChain \[grammar, greedy\]"):
        other.close()
    with pytest.raises(pyllama.InvalidRequestError, match="the chain was made for"):
        chain.sample(ready)
    chain.close()
    other.close()


def test_samplers_of_two_models(vocab: Vocab) -> None:
    with (
        Model(demo_model_path(), vocab_only=True) as other,
        pytest.raises(pyllama.InvalidRequestError, match="two models"),
    ):
        SamplerChain([samplers.infill(vocab), samplers.infill(other.vocab), samplers.greedy()])
