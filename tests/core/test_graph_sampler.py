"""Samplers inside the context's graph: the same tokens as a chain's, and no order that ends the process."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import pyllama
from pyllama import Batch, Context, SamplerChain, Vocab, samplers

MakeContext = Callable[..., Context]
Prefill = Callable[..., Batch]


def generate(
    context: Context, n: int, prompt: list[int], prefill: Prefill, chain: SamplerChain | None
) -> list[int]:
    """Return n tokens, sampled in the graph where there is no chain."""
    prefill(context, prompt)
    tokens: list[int] = []
    for pos in range(len(prompt), len(prompt) + n):
        if chain is None:
            token = context.sampled_token()
            assert token is not None
            context.accept(0, token)
        else:
            token = chain.sample(context)
        tokens.append(token)
        prefill(context, [token], pos)
    return tokens


@pytest.mark.parametrize(
    "recipe",
    [
        [samplers.greedy()],
        [samplers.penalties(32, 1.4, 0.2, 0.1), samplers.greedy()],
        [samplers.top_k(1), samplers.dist(1)],
        [samplers.temp(0), samplers.dist(1)],
        [samplers.top_k(7), samplers.penalties(16, 1.5), samplers.temp_ext(0.9, 0.2), samplers.greedy()],
    ],
)
def test_the_tokens_are_those_of_a_chain(
    make_context: MakeContext, prompt: list[int], prefill: Prefill, recipe: list[samplers.Sampler]
) -> None:
    inside, outside = make_context(), make_context()
    inside.set_sampler(0, recipe)
    with SamplerChain(recipe) as chain:
        expected = generate(outside, 12, prompt, prefill, chain)
    assert generate(inside, 12, prompt, prefill, None) == expected


def test_what_is_left_is_that_of_a_chain(
    make_context: MakeContext, prompt: list[int], prefill: Prefill
) -> None:
    recipe = [samplers.top_k(20), samplers.temp(0.7), samplers.min_p(0.01)]
    inside, outside = make_context(), make_context()
    inside.set_sampler(0, recipe)
    prefill(inside, prompt)
    prefill(outside, prompt)
    with SamplerChain(recipe) as chain:
        expected = chain.apply(outside.logits())
    found = inside.sampled()
    assert found.selected is None
    assert inside.sampled_token() is None
    order = np.argsort(-found.logits)
    assert found.ids[order].tolist() == expected.ids[np.argsort(-expected.logits)].tolist()
    np.testing.assert_allclose(np.sort(found.p), np.sort(expected.p), atol=1e-3)


def test_random_tokens_follow_the_probabilities(
    make_context: MakeContext, prompt: list[int], prefill: Prefill
) -> None:
    context = make_context()
    context.set_sampler(0, [samplers.top_k(4), samplers.temp(2), samplers.top_p(0.95), samplers.dist(5)])
    prefill(context, prompt[:-1])
    seen = set()
    for _ in range(40):
        prefill(context, prompt[-1:], len(prompt) - 1)
        left = context.sampled()
        assert left.selected in left.ids
        assert left.p.sum() == pytest.approx(1, abs=1e-4)
        seen.add(left.selected)
        context.memory.seq_rm(0, len(prompt) - 1)
    assert len(seen) > 1


def test_sequences_without_a_sampler_keep_their_logits(
    make_context: MakeContext, prompt: list[int], prefill: Prefill
) -> None:
    context, plain = make_context(), make_context()
    context.set_sampler(1, [samplers.greedy()])
    batch = Batch(2 * len(prompt))
    batch.add_sequence(prompt, 0, 0)
    batch.add_sequence(prompt, 0, 1)
    context.decode(batch)
    plain.decode(batch)
    first, second = len(prompt) - 1, 2 * len(prompt) - 1
    np.testing.assert_allclose(context.logits(first), plain.logits(first), atol=1e-3)
    assert context.sampled_token(second) == plain.logits(second).argmax()
    with pytest.raises(IndexError, match="the graph sampled this output"):
        context.logits(second)
    with pytest.raises(IndexError, match="was not sampled"):
        context.sampled_token(first)
    with SamplerChain([samplers.greedy()]) as chain, pytest.raises(IndexError, match="see sampled"):
        chain.sample(context)
    context.set_sampler(1, None)
    for call in (context.logits, context.sampled_token):
        with pytest.raises(IndexError, match="nothing was decoded"):
            call()
    prefill(context, [prompt[0]], len(prompt), 1)
    assert context.logits().shape == (len(context.model.vocab),)


def test_a_token_of_two_sequences_is_sampled_by_the_lower(
    make_context: MakeContext, prompt: list[int]
) -> None:
    context = make_context()
    context.set_sampler(0, [samplers.greedy()])
    batch = Batch(1, 2)
    batch.add(prompt[0], 0, [1, 0], logits=True)
    context.decode(batch)
    assert context.sampled_token() == context.logits().argmax()  # sequence 1 has no sampler


def test_several_outputs_of_a_sequence(
    make_context: MakeContext, prompt: list[int], prefill: Prefill
) -> None:
    context, plain = make_context(n_outputs_max_per_seq=4), make_context()
    context.set_sampler(0, [samplers.greedy()])
    prefill(context, prompt[:4], logits="all")
    prefill(plain, prompt[:4], logits="all")
    assert [context.sampled_token(i) for i in range(4)] == plain.logits_all().argmax(axis=1).tolist()
    with pytest.raises(pyllama.InvalidRequestError, match="at most 4 outputs per sequence"):
        prefill(context, prompt[4:9], 4, logits="all")
    with pytest.raises(pyllama.UnsupportedError, match="n_outputs_max_per_seq=1"):
        context.set_sampler(0, [samplers.penalties(8, 1.5)])


@pytest.mark.parametrize(
    ("recipe", "error", "words"),
    [
        ([], pyllama.InvalidRequestError, "samplers is empty"),
        ([samplers.typical(0.5)], pyllama.UnsupportedError, "typical cannot run in the graph"),
        ([samplers.custom(len)], pyllama.UnsupportedError, "custom cannot run"),
        ([samplers.greedy(), samplers.top_k(4)], pyllama.InvalidRequestError, "greedy selects the token"),
        ([samplers.temp(2), samplers.temp(2)], pyllama.InvalidRequestError, "temp comes twice"),
        ([samplers.top_k(-2)], pyllama.InvalidRequestError, "k=-2"),
        ([samplers.top_p(0.5, 2)], pyllama.UnsupportedError, "min_keep=1 candidates"),
        ([samplers.temp_ext(0.5, 0.5)], pyllama.UnsupportedError, "must be below temp"),
        ([samplers.temp(float("nan"))], pyllama.InvalidRequestError, "temp=nan"),
    ],
)
def test_what_cannot_be_is_refused(
    context: Context, recipe: list[samplers.Sampler], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        context.set_sampler(0, recipe)
    with pytest.raises(pyllama.InvalidRequestError, match="has no sampler"):
        context.accept(0, 5)


def test_a_bias_comes_before_candidates_are_left_out(
    context: Context, vocab: Vocab, prompt: list[int], prefill: Prefill
) -> None:
    bias = samplers.logit_bias(vocab, {5: 100.0})
    context.set_sampler(0, [bias, samplers.top_k(3), samplers.greedy()])
    prefill(context, prompt)
    assert context.sampled_token() == 5
    for earlier in (samplers.top_k(3), samplers.top_p(0.5), samplers.temp(0)):
        with pytest.raises(pyllama.InvalidRequestError, match="logit_bias must come before"):
            context.set_sampler(0, [earlier, bias])


def test_wrong_values_are_named(context: Context, prompt: list[int], prefill: Prefill) -> None:
    with pytest.raises(pyllama.InvalidRequestError, match="seq_id=4"):
        context.set_sampler(4, [samplers.greedy()])
    with pytest.raises(TypeError, match="made by"):
        context.set_sampler(0, ["greedy"])
    context.set_sampler(0, [samplers.greedy()])
    with pytest.raises(pyllama.InvalidRequestError, match="token=-1"):
        context.accept(0, -1)
    with pytest.raises(pyllama.UnsupportedError, match="cannot keep embeddings"):
        context.set_embeddings(True)
    prefill(context, prompt)
    with pytest.raises(IndexError):
        context.sampled(len(prompt))
    context.set_sampler(0, [samplers.top_k(1 << 30), samplers.dist()])  # as if it were not there
    prefill(context, [5], len(prompt))
    assert len(context.sampled().ids) == len(context.model.vocab)


def test_models_without_a_plain_decoder_are_refused(tiny: Callable[..., Context]) -> None:
    for name in ("bert", "t5"):
        with pytest.raises(pyllama.UnsupportedError, match="no plain decoder"):
            tiny(name).set_sampler(0, [samplers.greedy()])
    with pytest.raises(pyllama.UnsupportedError, match="embeddings=True"):
        tiny("llama", embeddings=True).set_sampler(0, [samplers.greedy()])


@pytest.mark.parametrize("name", ["mamba", "lfm2", "gemma3", "qwen2vl"])
def test_other_kinds(tiny: Callable[..., Context], prefill: Prefill, name: str) -> None:
    inside, outside = tiny(name), tiny(name)
    inside.set_sampler(1, [samplers.greedy()])
    for context in (inside, outside):
        prefill(context, [5, 9, 14], seq_id=1)
    assert inside.sampled_token() == outside.logits().argmax()
