"""Ctrl-C inside the low-level API: KeyboardInterrupt comes out, and the handles go on working."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PREAMBLE = """
import os, signal, sys, tempfile, threading, warnings
import numpy as np
import pyllama
from pyllama import Batch, Context, Model, SamplerChain, samplers
from pyllama.models import demo_model_path

def interrupted(call):
    # Another thread presses Ctrl-C when it gets the GIL in the middle of a call.
    main = threading.main_thread().ident
    warnings.simplefilter("ignore", ResourceWarning)  # of a handle that is there, and not yet closed

    def is_inside():
        frame = sys._current_frames()[main]
        while frame is not None and frame.f_code is not call.__code__:
            frame = frame.f_back
        return frame is not None

    def press():
        while not is_inside():
            pass
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    try:
        while True:
            call()
    except KeyboardInterrupt:
        print("interrupted")
    thread.join()

def decoded(context, n=64):
    context.memory.clear()
    batch = Batch(n)
    batch.add_sequence([5] * n, 0, 0)
    context.decode(batch)
    return context.logits()
"""

STATES = {
    "load": """
        interrupted(lambda: Model(demo_model_path(), use_mmap=False).close())
        with Model(demo_model_path()) as model:
            print(model.n_layer > 0)
        """,
    "context": """
        with Model(demo_model_path()) as model:
            interrupted(lambda: Context(model, n_ctx=4096).close())
            with Context(model, n_ctx=128) as context:
                print(decoded(context).size == len(model.vocab))
        """,
    "prefill": """
        with Model(demo_model_path()) as model, Context(model, n_ctx=1024, n_threads=1) as context:
            expected = decoded(context)
            long = Batch(1000)
            long.add_sequence([5] * 1000, 0, 0)
            context.memory.clear()

            def prefill():
                context.memory.clear()
                context.decode(long)

            interrupted(prefill)
            print(context.memory.seq_pos_max(0) in (-1, 999) and np.array_equal(decoded(context), expected))
        """,
    "decode": """
        with Model(demo_model_path()) as model, Context(model, n_ctx=128, n_threads=1) as context:
            expected = decoded(context)
            one = Batch(1)
            one.add(5, 64, 0, logits=True)

            def decode():
                context.decode(one)
                context.memory.seq_rm(0, 64)

            interrupted(decode)
            print(np.array_equal(decoded(context), expected))
        """,
    "tokenize": """
        with Model(demo_model_path()) as model:
            text = "What is 17 + 25? " * 20000
            expected = model.vocab.tokenize(text)
            interrupted(lambda: model.vocab.tokenize(text))
            print(np.array_equal(model.vocab.tokenize(text), expected))
        """,
    "sample": """
        row = np.random.default_rng(1).normal(size=200000).astype(np.float32)
        chain = SamplerChain([samplers.typical(0.9), samplers.dist(1)])
        interrupted(lambda: chain.sample_row(row))
        print(0 <= chain.sample_row(row) < 200000)
        chain.close()
        """,
    "custom": """
        def press(logits, ids):
            signal.raise_signal(signal.SIGINT)

        row = np.arange(10, dtype=np.float32)
        with SamplerChain([samplers.custom(press), samplers.greedy()]) as chain:
            try:
                chain.sample_row(row)
            except KeyboardInterrupt:
                print("interrupted")
            chain.remove(0)
            print(chain.sample_row(row) == 9)
        """,
    "state": """
        with Model(demo_model_path()) as model, Context(model, n_ctx=1024) as context:
            decoded(context, 1000)
            with tempfile.TemporaryDirectory() as folder:
                path = os.path.join(folder, "state")
                interrupted(lambda: context.state_save(path))
                context.state_save(path)
                context.state_load(path)
                print(os.listdir(folder) == ["state"])
        """,
    "quantize": """
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "x.gguf")
            full = os.path.join(folder, "full.gguf")
            pyllama.quantize(demo_model_path(), full, "F32", allow_requantize=True)
            interrupted(lambda: pyllama.quantize(full, path, "Q8_0"))
            pyllama.quantize(full, path, "Q8_0")
            print(sorted(os.listdir(folder)) == ["full.gguf", "x.gguf"])
        """,
}


@pytest.mark.parametrize("state", STATES)
def test_ctrl_c_is_clean(state: str) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-P",
            "-W",
            "error",
            "-X",
            "faulthandler",
            "-c",
            PREAMBLE + textwrap.dedent(STATES[state]),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    lines = [line for line in done.stderr.splitlines() if "possible training context overflow" not in line]
    assert (done.returncode, done.stdout, lines) == (0, "interrupted\nTrue\n", [])


# llama.cpp's own words about such a context, and about a decode that was stopped.
LLAMA_SAYS = ("possible training context overflow", "removing memory module entries")
# What a daemon thread does again and again while the interpreter exits.
LOOPS = {
    "load": "Model(demo_model_path(), use_mmap=False).close()",
    "context": "Context(model, n_ctx=4096).close()",
    "decode": "decoded(context, 1000)",
    "tokenize": "model.vocab.tokenize(text)",
    "quantize": 'pyllama.quantize(demo_model_path(), path, "F32", allow_requantize=True)',
}


@pytest.mark.parametrize("call", LOOPS)
def test_exit_while_a_daemon_thread_is_inside(call: str, tmp_path: Path) -> None:
    code = f"""
        def loop():
            with Model(demo_model_path()) as model, Context(model, n_ctx=1024) as context:
                while True:
                    inside.set()
                    {LOOPS[call]}

        text = "What is 17 + 25? " * 20000
        path = {str(tmp_path / "x.gguf")!r}
        inside = threading.Event()
        threading.Thread(target=loop, daemon=True).start()
        inside.wait()
        """
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-P", "-X", "faulthandler", "-c", PREAMBLE + textwrap.dedent(code)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        lines = [line for line in done.stderr.splitlines() if not any(said in line for said in LLAMA_SAYS)]
        assert (done.returncode, lines) == (0, [])
