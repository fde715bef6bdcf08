"""Wrong thread, two threads at once, fork, and the GIL."""

import os
import sys
import threading
import time
from collections.abc import Callable

import pytest

import pyllama
from pyllama import Batch, Context, Model, SamplerChain, Vocab, samplers


def outcome_in_thread(call: Callable[[], object]) -> object:
    result: list[object] = []

    def run() -> None:
        try:
            result.append(call())
        except BaseException as error:
            result.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return result[0]


def test_a_context_belongs_to_its_thread(context: Context, prefill: Callable[..., Batch]) -> None:
    batch = prefill(context, [1, 2])
    chain = SamplerChain([samplers.greedy()])
    for call in (
        lambda: context.decode(batch),
        lambda: context.encode(batch),
        context.logits,
        context.synchronize,
        context.close,
        lambda: context.n_ctx,
        lambda: context.memory,
        context.memory.clear,
        lambda: context.state_seq_get(0),
        lambda: chain.sample(context),
    ):
        error = outcome_in_thread(call)
        assert isinstance(error, pyllama.EngineError)
        assert "belongs to thread" in str(error)
    assert context.memory.seq_pos_max(0) == 1


def test_models_are_for_all_threads(model: Model) -> None:
    assert outcome_in_thread(lambda: model.vocab.tokenize("x").tolist()) == model.vocab.tokenize("x").tolist()


def test_other_threads_run_during_a_decode(make_context: Callable[..., Context]) -> None:
    """While one thread computes, another one passes thousands of checkpoints, which needs the GIL."""
    context = make_context(n_ctx=1024)
    batch = Batch(1000)
    batch.add_sequence([5] * 1000, 0, 0)
    inside = threading.Event()
    stop = threading.Event()
    n_turns = 0

    def count() -> None:
        nonlocal n_turns
        while not stop.is_set():
            n_turns += inside.is_set()
            time.sleep(0)  # give the GIL back; nothing else takes it away below

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)  # a thread that holds the GIL keeps it: only a release lets the other one in
    thread = threading.Thread(target=count)
    try:
        thread.start()
        inside.set()
        before = n_turns
        context.decode(batch)
        context.synchronize()
        turns = n_turns - before
        inside.clear()
        stop.set()
    finally:
        stop.set()
        sys.setswitchinterval(interval)
        thread.join()
    assert turns > 0


def cancel_inside(context: Context, batch: Batch) -> BaseException | None:
    """Decode a batch while another thread cancels it, and return what decode raised."""
    inside = threading.Event()

    def cancel() -> None:
        inside.wait()
        context.cancel()

    thread = threading.Thread(target=cancel)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)  # the other thread runs when the GIL is released: inside the decode
    try:
        thread.start()
        inside.set()
        context.decode(batch)
    except pyllama.DecodeCancelledError as error:
        return error
    finally:
        sys.setswitchinterval(interval)
        thread.join()
    return None


def test_cancel_stops_a_decode_that_runs(make_context: Callable[..., Context]) -> None:
    context = make_context(n_ctx=2048, n_batch=2048, n_ubatch=64)
    batch = Batch(2048)
    batch.add_sequence([5] * 2048, 0, 0)
    error = cancel_inside(context, batch)
    assert "was stopped by cancel()" in str(error)
    n_kept = context.memory.seq_pos_max(0) + 1
    assert n_kept % 64 == 0
    assert n_kept < 2048
    with pytest.raises(IndexError, match="last decode failed"):
        context.logits()
    context.memory.clear()
    context.decode(batch)
    assert context.memory.seq_pos_max(0) == 2047


def test_cancel_leaves_no_half_computed_state(tiny: Callable[..., Context]) -> None:
    """A recurrent state cannot go back to before the step that stopped: nothing of it is kept."""
    context = tiny("mamba", n_ctx=8192, n_batch=8192, n_ubatch=64)
    batch = Batch(8192)
    batch.add_sequence([5] * 8192, 0, 0)
    assert "was stopped by cancel()" in str(cancel_inside(context, batch))
    assert context.memory.seq_pos_max(0) == -1
    context.decode(batch)
    assert context.memory.seq_pos_max(0) == 8191


def test_cancel_before_a_decode_stops_the_next_one(context: Context, prefill: Callable[..., Batch]) -> None:
    outcome_in_thread(context.cancel)
    with pytest.raises(pyllama.DecodeCancelledError, match="before the computation"):
        prefill(context, [1])
    prefill(context, [1])
    context.close()
    with pytest.raises(pyllama.ClosedError):
        context.cancel()


def test_a_busy_chain_and_batch_raise(
    make_context: Callable[..., Context], vocab: Vocab, prefill: Callable[..., Batch]
) -> None:
    """A progress callback runs Python in the middle of a native call; here, another thread does."""
    context = make_context(n_ctx=1024)
    batch = Batch(1000)
    batch.add_sequence([5] * 1000, 0, 0)
    seen: list[BaseException | None] = []
    started = threading.Event()
    done = threading.Event()

    def meddle() -> None:
        started.set()
        while not done.is_set():
            try:
                batch.add_sequence([], 0, 0)
            except BaseException as error:
                seen.append(error)
                return

    thread = threading.Thread(target=meddle)
    thread.start()
    started.wait()
    for _ in range(50):
        context.memory.clear()
        context.decode(batch)
        if seen:
            break
    done.set()
    thread.join()
    assert seen
    assert isinstance(seen[0], pyllama.EngineError)
    assert "being decoded by another thread" in str(seen[0])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_handles_refuse_to_work_after_fork(
    context: Context, model: Model, prefill: Callable[..., Batch]
) -> None:
    batch = prefill(context, [1])
    chain = SamplerChain([samplers.greedy()])
    calls = [
        lambda: model.n_embd,
        lambda: model.vocab,
        model.close,
        lambda: context.decode(batch),
        context.logits,
        context.close,
        context.memory.clear,
        lambda: chain.sample(context),
        chain.reset,
    ]
    pid = os.fork()
    if pid == 0:
        n_refused = 0
        for call in calls:
            try:
                call()
            except pyllama.EngineError as error:
                n_refused += "after fork" in str(error)
            except BaseException:
                pass
        os._exit(n_refused)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == len(calls)
    assert context.logits().size == len(model.vocab)
