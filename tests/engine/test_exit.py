"""Ctrl-C and the interpreter's exit in every state of an engine: no hang, no crash, no noise."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

PREAMBLE = """
import asyncio, os, signal, sys, threading
import pyllama

QUESTION = [{"role": "user", "content": "What is 17 + 25?"}]
FOREVER = {"max_tokens": -1, "ignore_eos": True}
FLAGS = {"n_ctx": 512, "n_threads": 1}

def press_ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)

def run(main, loop):
    if loop == "trio":
        import trio
        trio.run(main)
    else:
        asyncio.run(main())
"""


def child(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    program = PREAMBLE + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-P", "-X", "faulthandler", "-c", program, *args],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def assert_clean(code: str, *args: str, prints: str = "") -> None:
    done = child(code, *args)
    assert (done.returncode, done.stderr, done.stdout.strip()) == (0, "", prints)


def test_exit_with_a_running_stream() -> None:
    assert_clean(
        """
        engine = pyllama.SyncEngine(**FLAGS)
        engine.start()
        streams = [engine.chat(QUESTION, **FOREVER) for _ in range(6)]
        iteration = iter(streams[0])
        next(iteration)
        """
    )


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_exit_with_running_streams_after_the_loop_has_ended(loop: str) -> None:
    assert_clean(
        """
        async def main():
            global engine, streams, iteration
            engine = pyllama.Engine(**FLAGS)
            await engine.start()
            streams = [await engine.chat(QUESTION, **FOREVER) for _ in range(6)]
            iteration = aiter(streams[0])
            await anext(iteration)

        run(main, sys.argv[1])
        """,
        loop,
    )


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_exit_out_of_the_iteration(loop: str) -> None:
    assert_clean(
        """
        async def main():
            async with pyllama.Engine(**FLAGS) as engine:
                async for delta in await engine.chat(QUESTION, **FOREVER):
                    sys.exit(0)

        run(main, sys.argv[1])
        """,
        loop,
    )


def test_exit_while_a_thread_iterates() -> None:
    assert_clean(
        """
        engine = pyllama.SyncEngine(**FLAGS)
        engine.start()
        started = threading.Event()

        def read():
            for delta in engine.chat(QUESTION, **FOREVER):
                started.set()

        threading.Thread(target=read, daemon=True).start()
        started.wait()
        """
    )


def test_exit_during_the_load() -> None:
    assert_clean(
        """
        from pyllama.loading import EngineHandle
        handles = [EngineHandle(pyllama.SyncEngine(**FLAGS)._params) for _ in range(4)]
        for handle in handles[1:]:
            handle.start()
        """
    )


def test_ctrl_c_while_a_script_reads() -> None:
    assert_clean(
        """
        try:
            with pyllama.SyncEngine(**FLAGS) as engine:
                for delta in engine.chat(QUESTION, **FOREVER):
                    press_ctrl_c()
        except KeyboardInterrupt:
            print("interrupted")
        """,
        prints="interrupted",
    )


def test_ctrl_c_while_a_script_waits() -> None:
    # The stream brings nothing: the only slot is taken.
    assert_clean(
        """
        try:
            with pyllama.SyncEngine(n_parallel=1, **FLAGS) as engine:
                first = engine.chat(QUESTION, **FOREVER)
                first.read()
                waiting = engine.chat(QUESTION, **FOREVER)
                threading.Timer(0.2, press_ctrl_c).start()
                waiting.result()
        except KeyboardInterrupt:
            print("interrupted")
        """,
        prints="interrupted",
    )


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_ctrl_c_while_a_loop_reads(loop: str) -> None:
    assert_clean(
        """
        async def main():
            async with pyllama.Engine(**FLAGS) as engine:
                other = await engine.chat(QUESTION, **FOREVER)
                async for delta in await engine.chat(QUESTION, **FOREVER):
                    press_ctrl_c()

        try:
            run(main, sys.argv[1])
        except KeyboardInterrupt:
            print("interrupted")
        """,
        loop,
        prints="interrupted",
    )


def test_ctrl_c_during_the_prefill() -> None:
    assert_clean(
        """
        question = [{"role": "user", "content": "What is 17 + 25? " * 100}]
        try:
            with pyllama.SyncEngine(n_ctx=2048, n_batch=64, n_ubatch=64, n_threads=1) as engine:
                for delta in engine.chat(question, return_progress=True, **FOREVER):
                    assert delta.prefill is not None
                    press_ctrl_c()
        except KeyboardInterrupt:
            print("interrupted")
        """,
        prints="interrupted",
    )


def test_ctrl_c_while_the_engine_tokenizes() -> None:
    assert_clean(
        """
        text = "What is 17 + 25? " * 20000
        with pyllama.SyncEngine(**FLAGS) as engine:
            expected = engine.tokenize(text)
            threading.Timer(0.01, press_ctrl_c).start()
            try:
                while engine.tokenize(text) == expected:
                    pass
            except KeyboardInterrupt:
                print("interrupted", engine.tokenize(text) == expected)
        """,
        prints="interrupted True",
    )


LONG_LOAD = """
from pyllama._core import _llama

def load(params, progress):
    # A load that notices stop() at its next tensor, and has some left. Somebody waits for it by now.
    press_ctrl_c()
    over.wait(30)
    raise pyllama.ModelLoadError("stopped")

class Progress:
    value = 0.5
    def stop(self):
        over.set()

over = threading.Event()
_llama.Engine, _llama.LoadProgress = load, Progress
"""


def test_ctrl_c_during_the_load_of_a_script() -> None:
    assert_clean(
        LONG_LOAD
        + """
try:
    with pyllama.SyncEngine(**FLAGS):
        pass
except KeyboardInterrupt:
    print("interrupted", over.is_set())
""",
        prints="interrupted True",
    )


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_ctrl_c_during_the_load_of_a_loop(loop: str) -> None:
    assert_clean(
        LONG_LOAD
        + """
async def main():
    async with pyllama.Engine(**FLAGS):
        pass

try:
    run(main, sys.argv[1])
except KeyboardInterrupt:
    print("interrupted", over.is_set())
""",
        loop,
        prints="interrupted True",
    )


def test_uncaught_ctrl_c_shows_one_traceback() -> None:
    done = child(
        """
        with pyllama.SyncEngine(**FLAGS) as engine:
            for delta in engine.chat(QUESTION, **FOREVER):
                press_ctrl_c()
        """
    )
    assert done.returncode in (-2, 130)
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.endswith("KeyboardInterrupt\n")


def test_a_forked_child_exits_and_leaves_the_parents_engine_alone() -> None:
    assert_clean(
        """
        with pyllama.SyncEngine(**FLAGS) as engine:
            stream = engine.chat(QUESTION, **FOREVER)
            stream.read()
            child = os.fork()
            if child == 0:
                try:
                    engine.chat(QUESTION)
                except pyllama.ClosedError:
                    sys.exit(7)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
            print(bool(stream.read()))
        """,
        prints="True",
    )
