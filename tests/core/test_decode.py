from collections.abc import Callable

import numpy as np
import pytest

import pyllama
from pyllama import Batch, Context, Model, SamplerChain, samplers


def greedy(context: Context, prompt: list[int], n: int) -> list[int]:
    batch = Batch(max(len(prompt), 1))
    batch.add_sequence(prompt, 0, 0)
    chain = SamplerChain([samplers.greedy()])
    out: list[int] = []
    while len(out) < n:
        context.decode(batch)
        out.append(chain.sample(context))
        batch.clear()
        batch.add(out[-1], len(prompt) + len(out) - 1, 0, logits=True)
    return out


def test_greedy_loop_is_repeatable(make_context: Callable[..., Context], prompt: list[int]) -> None:
    first = greedy(make_context(), prompt, 24)
    assert len(set(first)) > 1
    assert greedy(make_context(), prompt, 24) == first
    assert greedy(make_context(kv_unified=False), prompt, 24) == first


def test_greedy_is_the_largest_logit(
    context: Context, prompt: list[int], prefill: Callable[..., Batch]
) -> None:
    prefill(context, prompt, logits="all")
    chain = SamplerChain([samplers.greedy()])
    for i in (0, 1, -1):
        logits = context.logits(i)
        assert logits.dtype == np.float32
        assert logits.shape == (len(context.model.vocab),)
        assert np.isfinite(logits).all()
        assert chain.sample(context, i) == logits.argmax()


def test_negative_indices_count_from_the_end(
    context: Context, prompt: list[int], prefill: Callable[..., Batch]
) -> None:
    prefill(context, prompt, logits="all")
    n = len(prompt)
    assert np.array_equal(context.logits(-1), context.logits(n - 1))
    assert np.array_equal(context.logits(-n), context.logits(0))
    assert not np.array_equal(context.logits(0), context.logits(n - 1))


def test_one_batch_equals_many(
    make_context: Callable[..., Context], prompt: list[int], prefill: Callable[..., Batch]
) -> None:
    whole, steps = make_context(), make_context()
    prefill(whole, prompt)
    for pos, token in enumerate(prompt):
        prefill(steps, [token], pos)
    np.testing.assert_allclose(whole.logits(), steps.logits(), rtol=0, atol=0.05)


def test_logits_are_a_copy(context: Context, prompt: list[int], prefill: Callable[..., Batch]) -> None:
    prefill(context, prompt)
    kept = context.logits()
    same = kept.copy()
    prefill(context, [prompt[0]], len(prompt))
    assert np.array_equal(kept, same)


def test_view_copies_nothing_and_is_written_through(
    context: Context, prompt: list[int], prefill: Callable[..., Batch]
) -> None:
    prefill(context, prompt)
    expected = context.logits()
    with context.logits_view() as view:
        assert view.format == "f"
        assert view.shape == expected.shape
        assert np.array_equal(np.asarray(view), expected)
        view[7] = 1e6
    assert context.logits()[7] == 1e6
    assert SamplerChain([samplers.greedy()]).sample(context) == 7
    with pytest.raises(ValueError, match="released"):
        view[0]


def test_view_keeps_the_memory_in_place(
    context: Context, prompt: list[int], prefill: Callable[..., Batch]
) -> None:
    batch = prefill(context, prompt)
    with context.logits_view():
        with pytest.raises(pyllama.EngineError, match="logits view is open"):
            context.decode(batch)
        with pytest.raises(pyllama.EngineError, match="logits view is open"):
            context.close()
    with pytest.raises(pyllama.EngineError, match="outlives"), context.logits_view() as view:
        array = np.asarray(view)
    del view
    assert np.isfinite(array).all()
    with pytest.raises(pyllama.EngineError, match="logits view is open"):
        context.close()
    del array
    prefill(context, [prompt[0]], len(prompt))


def test_outputs_that_were_not_asked_for(
    context: Context, prompt: list[int], prefill: Callable[..., Batch]
) -> None:
    chain = SamplerChain([samplers.greedy()])
    for call in (context.logits, context.logits_view, lambda i: chain.sample(context, i)):
        with pytest.raises(IndexError, match="nothing was decoded"):
            call(-1)
    prefill(context, prompt)
    for call in (context.logits, context.logits_view, lambda i: chain.sample(context, i)):
        with pytest.raises(IndexError, match="logits=False"):
            call(0)
        for i in (len(prompt), -len(prompt) - 1, 1 << 70):
            with pytest.raises(IndexError, match=str(i)):
                call(i)
    prefill(context, [prompt[0]], len(prompt), logits="none")
    with pytest.raises(IndexError, match="logits=False"):
        context.logits()


def test_bad_batches_name_the_value(
    context: Context, prompt: list[int], prefill: Callable[..., Batch]
) -> None:
    n = len(prompt)
    prefill(context, prompt)
    with pytest.raises(pyllama.InvalidRequestError, match="empty"):
        context.decode(Batch(4))
    with pytest.raises(pyllama.InvalidRequestError, match=r"513 tokens, and n_batch is 512"):
        prefill(context, [1] * 513, n)
    with pytest.raises(pyllama.InvalidRequestError, match=r"token 99999 at index 0"):
        prefill(context, [99999], n)
    with pytest.raises(pyllama.InvalidRequestError, match=r"token -5 at index 1"):
        prefill(context, [1, -5], n)
    with pytest.raises(pyllama.InvalidRequestError, match=r"sequence 4 at index 0 is not below n_seq_max=4"):
        prefill(context, [1], 0, seq_id=4)
    with pytest.raises(pyllama.InvalidRequestError, match=f"X = {n - 1}.*Y = {n + 5}"):
        prefill(context, [1], n + 5)
    with pytest.raises(pyllama.InvalidRequestError, match="inconsistent sequence positions"):
        prefill(context, [1], 0)
    with pytest.raises(IndexError, match="last decode failed"):
        context.logits()
    assert context.memory.seq_pos_max(0) == n - 1
    prefill(context, [1], n)
    assert context.logits().shape == (len(context.model.vocab),)


def test_a_full_memory_is_told_apart(
    make_context: Callable[..., Context], prefill: Callable[..., Batch]
) -> None:
    context = make_context(n_ctx=256)
    prefill(context, [1] * 200)
    with pytest.raises(pyllama.ContextFullError, match=r"57 more tokens \(n_ctx is 256\)"):
        prefill(context, [1] * 57, 200)
    assert context.memory.seq_pos_max(0) == 199
    prefill(context, [1] * 56, 200)


def test_sizes(make_context: Callable[..., Context]) -> None:
    context = make_context(
        n_ctx=1000, n_batch=128, n_ubatch=64, n_seq_max=2, kv_unified=False, n_threads_batch=2
    )
    assert context.n_ctx == 1024
    assert context.n_ctx_seq == 512
    assert (context.n_batch, context.n_ubatch, context.n_seq_max) == (128, 64, 2)
    assert (context.n_threads, context.n_threads_batch) == (1, 2)
    assert context.perf().n_decode >= 0
    context.synchronize()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("n_ctx", -1),
        ("n_ctx", 1 << 40),
        ("n_batch", 0),
        ("n_ubatch", 0),
        ("n_seq_max", 0),
        ("n_seq_max", 257),
        ("n_threads", 0),
        ("n_threads", 513),
        ("type_k", "q9"),
        ("type_v", None),
        ("pooling", "sum"),
        ("flash_attn", "maybe"),
    ],
)
def test_bad_options_name_the_option(
    make_context: Callable[..., Context], option: str, value: object
) -> None:
    with pytest.raises(pyllama.InvalidRequestError, match=option) as caught:
        make_context(**{option: value})
    assert caught.value.param == option


@pytest.mark.parametrize("kind", ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1"])
def test_memory_formats(
    make_context: Callable[..., Context], prefill: Callable[..., Batch], kind: str
) -> None:
    context = make_context(type_k=kind, type_v=kind, n_ctx=256)
    prefill(context, [5, 6, 7])
    assert np.isfinite(context.logits()).all()


def test_llama_cpp_says_why_a_context_is_refused(make_context: Callable[..., Context]) -> None:
    with pytest.raises(pyllama.EngineError, match="quantized V cache requires flash_attn"):
        make_context(type_v="q8_0", flash_attn=False)


def test_embeddings(
    make_context: Callable[..., Context], model: Model, prefill: Callable[..., Batch]
) -> None:
    context = make_context(embeddings=True, pooling="none")
    prefill(context, [5, 6, 7])
    first, last = context.embeddings(0), context.embeddings(-1)
    assert first.shape == last.shape == (model.n_embd,)
    assert first.dtype == np.float32
    assert not np.array_equal(first, last)
    with pytest.raises(pyllama.InvalidRequestError, match="does not pool"):
        context.embeddings_seq(0)


def test_pooled_embeddings(
    make_context: Callable[..., Context], model: Model, prefill: Callable[..., Batch]
) -> None:
    rows = make_context(embeddings=True, pooling="none")
    prefill(rows, [5, 6, 7], logits="all")
    context = make_context(embeddings=True, pooling="mean")
    with pytest.raises(IndexError, match="sequence 1"):
        context.embeddings_seq(1)
    prefill(context, [5, 6, 7], seq_id=1, logits="all")
    pooled = context.embeddings_seq(1)
    assert pooled.shape == (model.n_embd,)
    mean = np.mean([rows.embeddings(i) for i in range(3)], axis=0)
    np.testing.assert_allclose(pooled, mean, rtol=0, atol=0.05)
    with pytest.raises(IndexError, match="sequence 0"):
        context.embeddings_seq(0)
    with pytest.raises(pyllama.InvalidRequestError, match="pools"):
        context.embeddings(0)


def test_pooling_needs_even_steps(make_context: Callable[..., Context]) -> None:
    for pooling in ("mean", "rank"):
        with pytest.raises(pyllama.InvalidRequestError, match=r"n_seq_max=3: n_ubatch=32 does not"):
            make_context(embeddings=True, pooling=pooling, n_seq_max=3, n_ubatch=32)


def test_embeddings_that_were_not_asked_for(context: Context, prefill: Callable[..., Batch]) -> None:
    prefill(context, [5])
    for call in (context.embeddings, context.embeddings_seq):
        with pytest.raises(pyllama.InvalidRequestError, match="embeddings=False"):
            call(0)


def test_a_decoder_does_not_encode(context: Context) -> None:
    batch = Batch(1)
    batch.add(1, 0, 0)
    with pytest.raises(pyllama.UnsupportedError, match="no encoder"):
        context.encode(batch)


def test_a_cache_of_experts_needs_a_gpu_and_experts(make_context: Callable[..., Context]) -> None:
    with pytest.raises(pyllama.EngineError, match="MoE cache requires a"):
        make_context(moe_cache_size=1 << 20)
    with pytest.raises(pyllama.InvalidRequestError, match="moe_cache_size=-1"):
        make_context(moe_cache_size=-1)
