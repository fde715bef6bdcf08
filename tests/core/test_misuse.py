"""Every kind of misuse on every kind of model: an error that names the value, and the context works on."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pyllama
from pyllama import Batch, Context, LoraAdapter, SamplerChain, samplers

KINDS = ["llama", "mamba", "lfm2", "gemma3", "qwen2vl", "bert", "t5"]
FULL = {"n_ctx": 128, "n_threads": 1, "n_seq_max": 2, "n_batch": 32, "n_ubatch": 32}


def go_on(context: Context, tokens: list[int], pos: int = 0, seq_id: int = 0, logits: str = "last") -> Batch:
    """Compute a sequence, in the way that the kind of model has."""
    batch = Batch(len(tokens))
    batch.add_sequence(tokens, pos, seq_id, logits)
    if context.model.has_encoder:
        context.encode(batch)
    if context.model.has_decoder:
        context.decode(batch)
    return batch


def in_thread(call: Callable[[], object]) -> None:
    """Call in another thread, and raise here what it raised there."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


def in_fork(call: Callable[[], object]) -> None:
    """Call in a child process, and raise here the words of what it raised there."""
    if not hasattr(os, "fork"):
        pytest.skip("no fork here")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            call()
        except pyllama.EngineError as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    words = os.read(reader, 4096).decode()
    os.close(reader)
    os.waitpid(child, 0)
    raise pyllama.EngineError(words)


MISUSE: dict[str, tuple[Callable[[Context], object], str]] = {
    "index out of range": (lambda context: context.logits(99), "no output 99|no logits"),
    "negative index out of range": (lambda context: context.logits(-99), "no output -99|no logits"),
    "view out of range": (lambda context: context.logits_view(99), "no output 99|no logits"),
    "no embeddings": (lambda context: context.embeddings(0), "embeddings=False"),
    "sequence without embeddings": (lambda context: context.embeddings_seq(1), "embeddings=False"),
    "batch over n_batch": (lambda context: go_on(context, [5] * 33), "33 tokens, and n_batch is 32"),
    "token outside the vocabulary": (lambda context: go_on(context, [64]), "token 64 at index 0"),
    "bad sequence": (lambda context: go_on(context, [5], seq_id=2), "sequence 2 at index 0"),
    "empty batch": (lambda context: context.encode(Batch(1)), "empty|no encoder"),
    "bad state": (lambda context: context.state_seq_set(0, b"garbage"), "7 bytes that are no|no memory"),
    "bad state of all": (lambda context: context.state_set(bytes(100)), "100 bytes that are no|no memory"),
    "state of a bad sequence": (lambda context: context.state_seq_get(2), "seq_id=2"),
    "bad sequence in memory": (lambda context: context.memory.seq_rm(256), "seq_id=256|no KV memory"),
    "bad range in memory": (lambda context: context.memory.seq_rm(0, -2), "p0=-2|no KV memory"),
    "embeddings of another width": (
        lambda context: (
            context.encode(wide_batch()) if context.model.has_encoder else context.decode(wide_batch())
        ),
        "embeddings of 7 numbers",
    ),
    "control vector of another shape": (
        lambda context: context.set_control_vector(np.zeros((9, 9))),
        r"not \(9, 9\)",
    ),
    "control vector on layers that are not": (
        lambda context: context.set_control_vector(
            np.zeros((context.model.n_layer - 1, context.model.n_embd)), (1, 99)
        ),
        "layers=99",
    ),
    "no adapter": (lambda context: context.set_adapters({"adapter": 1.0}), "LoraAdapter"),
    "adapter file that is none": (lambda context: LoraAdapter(context.model, __file__), "not a GGUF file"),
    "chain that selects nothing": (lambda context: select_nothing(context), "selects|no logits"),
    "bad grammar": (
        lambda context: SamplerChain([samplers.grammar(context.model.vocab, "root ::= (")]),
        "root ::= \\(",
    ),
    "wrong thread": (lambda context: in_thread(lambda: context.n_ctx), "belongs to thread"),
    "after fork": (lambda context: in_fork(lambda: context.n_ctx), "cannot be used after fork"),
    "memory after fork": (lambda context: in_fork(lambda: context.memory), "cannot be used after fork"),
}


def wide_batch() -> Batch:
    batch = Batch(1, n_embd=7)
    batch.add_embeddings(np.zeros((1, 7)), 0, 0)
    return batch


def select_nothing(context: Context) -> None:
    with SamplerChain([samplers.top_k(3)]) as chain:
        chain.sample(context)


ERRORS = (pyllama.PyllamaError, IndexError, TypeError)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("misuse", MISUSE)
@pytest.mark.parametrize("kind", KINDS)
def test_an_error_names_the_value(tiny: Callable[..., Context], kind: str, misuse: str) -> None:
    context = tiny(kind, **FULL)
    call, words = MISUSE[misuse]
    go_on(context, [5, 9, 14])
    with pytest.raises(ERRORS, match=words):
        call(context)
    go_on(context, [5, 9], 3)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "bert"])
def test_decoding_in_order(tiny: Callable[..., Context], kind: str) -> None:
    context = tiny(kind, **FULL)
    with pytest.raises(IndexError, match="nothing was decoded yet"):
        context.logits()
    go_on(context, [5, 9, 14])
    with pytest.raises(IndexError, match="logits=False"):
        context.logits(0)
    if kind != "qwen2vl":  # whose positions may jump
        with pytest.raises(pyllama.InvalidRequestError, match=r"consecutive|refused"):
            go_on(context, [5], 7)
    with pytest.raises(pyllama.InvalidRequestError, match="Y = 1"):
        go_on(context, [5], 1)
    if context.model.has_encoder:
        return
    streams = tiny(kind, **{**FULL, "kv_unified": False})
    go_on(streams, [5, 9, 14])
    with pytest.raises(pyllama.UnsupportedError, match="whole sequences only"):
        streams.memory.seq_cp(0, 1, 0, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_closed_handles_say_so(tiny: Callable[..., Context], kind: str) -> None:
    context = tiny(kind, **FULL)
    model = context.model
    memory = None if kind == "bert" else context.memory
    with pytest.raises(pyllama.InvalidRequestError, match="still used by"):
        model.close()
    context.close()
    context.close()
    calls: list[Callable[[], Any]] = [
        lambda: context.n_ctx,
        context.logits,
        lambda: context.decode(Batch(1)),
        lambda: context.set_sampler(0, None),
        lambda: context.state_get(),
        context.cancel,
    ]
    if memory is not None:
        calls.append(memory.clear)
    for call in calls:
        with pytest.raises(pyllama.ClosedError, match="the context is closed"):
            call()
    model.close()
    for call in (lambda: model.n_embd, lambda: model.vocab, lambda: Context(model)):
        with pytest.raises(pyllama.ClosedError, match="is closed"):
            call()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "bert"])
def test_a_damaged_file_of_states_is_refused(tiny: Callable[..., Context], kind: str, tmp_path: Path) -> None:
    context = tiny(kind, **FULL)
    go_on(context, [5, 9, 14])
    path = tmp_path / "state"
    context.state_save(path, [5, 9, 14])
    data = path.read_bytes()
    for damaged in (data[:-1], data + b"x", data[:40] + bytes([data[40] ^ 1]) + data[41:], b""):
        path.write_bytes(damaged)
        with pytest.raises(pyllama.InvalidRequestError):
            context.state_load(path)
    path.write_bytes(data)
    assert context.state_load(path).tolist() == [5, 9, 14]
    with pytest.raises(pyllama.InvalidRequestError, match="another model"):
        tiny("mamba" if kind == "llama" else "llama", **FULL).state_load(path)
    with pytest.raises(OSError, match="missing"):
        context.state_load(tmp_path / "state.missing")
