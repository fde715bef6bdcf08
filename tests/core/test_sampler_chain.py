"""Sampler chains as objects: editing, rows, what is left of one, seeds, clones, hostile values."""

import threading
from collections.abc import Callable

import numpy as np
import pytest

import pyllama
from pyllama import Context, Model, SamplerChain, Vocab, samplers
from pyllama.models import demo_model_path


def test_chains_can_be_edited(vocab: Vocab) -> None:
    row = np.arange(len(vocab), dtype=np.float32)
    chain = SamplerChain()
    chain.append(samplers.greedy())
    chain.insert(0, samplers.logit_bias(vocab, {len(vocab) - 1: -float("inf")}))
    chain.insert(-1, samplers.top_k(3))
    assert chain.names == ("logit_bias", "top_k", "greedy")
    assert chain.sample_row(row) == len(vocab) - 2
    assert chain.remove(0) == samplers.logit_bias(vocab, {len(vocab) - 1: -float("inf")})
    assert chain.sample_row(row) == len(vocab) - 1
    with pytest.raises(pyllama.InvalidRequestError, match="must be the last"):
        chain.append(samplers.top_k(1))
    with pytest.raises(pyllama.InvalidRequestError, match="must be the last"):
        chain.insert(0, samplers.dist(1))
    with pytest.raises(pyllama.InvalidRequestError, match="k="):
        chain.insert(0, samplers.top_k(1 << 40))
    assert chain.names == ("top_k", "greedy")
    chain.remove(-1)
    chain.append(samplers.dist(1))
    assert chain.sample_row(row) in range(len(vocab) - 3, len(vocab))


def test_an_edited_chain_holds_its_model_no_longer() -> None:
    other = Model(demo_model_path(), vocab_only=True)
    chain = SamplerChain([samplers.infill(other.vocab), samplers.greedy()])
    with pytest.raises(pyllama.InvalidRequestError, match="still used"):
        other.close()
    chain.remove(0)
    other.close()
    assert chain.sample_row([1.0, 3.0, 2.0]) == 1


def test_apply_shows_the_distribution() -> None:
    row = np.log(np.array([0.5, 0.25, 0.125, 0.125], dtype=np.float32))
    with SamplerChain([samplers.top_k(2)]) as chain:
        left = chain.apply(row)
    assert left.ids.tolist() == [0, 1]
    assert left.ids.dtype == np.int32
    assert left.logits.tolist() == row[:2].tolist()
    assert left.p.dtype == np.float32
    np.testing.assert_allclose(left.p, [2 / 3, 1 / 3], rtol=1e-6)
    assert left.selected is None
    with SamplerChain([samplers.min_p(0.3), samplers.greedy()]) as chain:
        left = chain.apply(row.tolist())
        assert left.ids.tolist() == [0, 1]
        assert left.selected == 0
        assert chain.perf().n_sample == 0
    assert SamplerChain().apply(row).ids.tolist() == [0, 1, 2, 3]


def test_apply_leaves_out_what_is_forbidden(vocab: Vocab) -> None:
    letter = int(vocab.tokenize("a")[0])
    with SamplerChain([samplers.grammar(vocab, 'root ::= "a"')]) as chain:
        left = chain.apply(np.zeros(len(vocab), dtype=np.float32))
        assert left.ids.tolist() == [letter]
        assert left.p.tolist() == [1.0]


def test_rows_are_checked(vocab: Vocab) -> None:
    with SamplerChain([samplers.infill(vocab), samplers.greedy()]) as chain:
        for call in (chain.apply, chain.sample_row):
            with pytest.raises(
                pyllama.InvalidRequestError, match=f"3 values, and the vocabulary .* {len(vocab)}"
            ):
                call([1.0, 2.0, 3.0])
    with SamplerChain([samplers.greedy()]) as chain:
        for row, shape in ([], r"\(0,\)"), ([[1.0]], r"\(1, 1\)"), (1.0, r"\(\)"):
            with pytest.raises(pyllama.InvalidRequestError, match=shape):
                chain.apply(row)
        for bad in (float("nan"), float("inf")):
            with pytest.raises(pyllama.EngineError, match=r"NaN or \+inf, first at token 1"):
                chain.sample_row([0.0, bad])
        with pytest.raises(pyllama.EngineError, match="all logits are -inf"):
            chain.sample_row([-float("inf")] * 2)
        with pytest.raises(ValueError, match="could not convert"):
            chain.sample_row("abc")
        row = np.arange(20, dtype=np.float64)[::-2]
        assert chain.sample_row(row) == 0
        row.flags.writeable = False
        assert chain.sample_row(row) == 0


def test_row_and_context_agree(ready: Context) -> None:
    recipe = [samplers.top_k(50), samplers.temp(3.0), samplers.dist(5)]
    by_row, by_context = SamplerChain(recipe), SamplerChain(recipe)
    row = ready.logits()
    assert [by_row.sample_row(row) for _ in range(30)] == [by_context.sample(ready) for _ in range(30)]
    with ready.logits_view() as view:
        assert by_row.sample_row(view) == by_context.sample(ready)


def test_top_k_in_front_changes_nothing(ready: Context, vocab: Vocab) -> None:
    """In front, top_k reads the row itself; behind a sampler that does nothing, llama.cpp's own does it."""
    rest = [samplers.top_p(0.9), samplers.temp(2.0), samplers.dist(3)]
    for k in (1, 2, 40, len(vocab) // 4, len(vocab) // 2, len(vocab) + 7):
        fast = SamplerChain([samplers.top_k(k), *rest])
        slow = SamplerChain([samplers.temp(1.0), samplers.top_k(k), *rest])
        row = ready.logits()
        assert dict(zip(*fast.clone().apply(row)[:2], strict=True)) == dict(
            zip(*slow.clone().apply(row)[:2], strict=True)
        )
        assert [fast.sample(ready) for _ in range(20)] == [slow.sample(ready) for _ in range(20)]


def test_values_without_order_are_refused(vocab: Vocab) -> None:
    """A sort of NaNs may leave its array; +inf - inf is one."""
    big = np.full(len(vocab), 3e38, dtype=np.float32)
    overflow = SamplerChain([samplers.temp(1e-6), samplers.top_k(0), samplers.top_p(0.9), samplers.dist(1)])
    with pytest.raises(pyllama.EngineError, match=r"'temp' made the logit of token 0 NaN or \+inf"):
        overflow.sample_row(big)
    assert 0 <= overflow.sample_row(big / 3e38) < len(vocab)


def test_infill_is_not_quadratic_over_a_whole_vocabulary(vocab: Vocab) -> None:
    row = np.zeros(5000, dtype=np.float32)
    with SamplerChain([samplers.custom(lambda logits, ids: None), samplers.greedy()]) as chain:
        assert chain.sample_row(row) == 0
    chain = SamplerChain([samplers.infill(vocab), samplers.greedy()])
    assert 0 <= chain.sample_row(np.zeros(len(vocab), dtype=np.float32)) < len(vocab)


def test_seeds_are_told() -> None:
    row = np.zeros(1000, dtype=np.float32)
    assert SamplerChain([samplers.top_k(3), samplers.greedy()]).seed is None
    assert SamplerChain([samplers.dist(7)]).seed == 7
    assert SamplerChain([samplers.xtc(0.1, 0.1, seed=5), samplers.greedy()]).seed == 5
    for last in (samplers.dist(), samplers.mirostat_v2(), samplers.adaptive_p(0.3), samplers.dist(2**32 - 1)):
        chain = SamplerChain([last])
        seed = chain.seed
        assert seed is not None
        assert chain[0] is last
        drawn = [chain.sample_row(row) for _ in range(5)]
        assert chain.clone().seed == seed
        again = samplers.Sampler(last.name, (*last.args[:-1], seed))
        repeated = SamplerChain([again])
        assert [repeated.sample_row(row) for _ in range(5)] == drawn
        chain.reset()
        assert chain.seed not in (None, seed)
        assert [chain.sample_row(row) for _ in range(5)] != drawn


def test_a_clone_of_adaptive_p_forgets_what_it_waits_for() -> None:
    """llama.cpp's copy would look the pending token's probability up in an empty table."""
    chain = SamplerChain([samplers.adaptive_p(0.3, seed=1)])
    selected = chain.apply(np.zeros(5000, dtype=np.float32)).selected
    assert selected is not None
    chain.clone().accept(selected)
    chain.accept(selected)


def test_perf_counts(ready: Context) -> None:
    with SamplerChain([samplers.top_k(5), samplers.dist(1)]) as chain:
        for _ in range(3):
            chain.sample(ready)
        chain.accept(1)
        perf = chain.perf()
        assert perf.n_sample == 4
        assert perf.sample_ms >= 0


def test_a_lazy_grammar_searches_long_texts(vocab: Vocab) -> None:
    """The search recurses once a character: on an ordinary stack 30,000 of them end the process."""
    word = max(
        range(len(vocab)), key=lambda t: len(vocab.token_to_piece(t)) if not vocab.is_control(t) else 0
    )
    n_bytes = len(vocab.token_to_piece(word))
    lazy = samplers.grammar_lazy(vocab, 'root ::= "<t>" "xyz"', trigger_patterns=[r"^[\s\S]*(<t>)$"])
    with SamplerChain([lazy, samplers.greedy()]) as chain:
        outcome = outcome_on_a_small_stack(lambda: [chain.accept(word) for _ in range(30_000 // n_bytes)])
        assert isinstance(outcome, list)
        for token in vocab.tokenize("<t>"):
            chain.accept(int(token))
        with pytest.raises(pyllama.InvalidRequestError, match="does not allow"):
            chain.accept(word)


def outcome_on_a_small_stack(call: Callable[[], object]) -> object:
    result: list[object] = []
    before = threading.stack_size(1 << 20)
    try:
        thread = threading.Thread(target=lambda: result.append(call()))
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    return result[0]
