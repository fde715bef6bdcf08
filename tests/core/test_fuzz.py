"""Random calls, valid and not, in a child process: none of them may end it."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

WORKER = Path(__file__).with_name("fuzz_worker.py")
# `make fuzz` asks for more.
EXAMPLES = int(os.environ.get("PYLLAMA_FUZZ_EXAMPLES", "300"))


def names_of_calls() -> list[str]:
    """Ask the worker, whose handles this process is not to make."""
    command = [sys.executable, "-W", "error", str(WORKER), "--names"]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


NAMES = names_of_calls()
# Mostly values that are nearly right: far-off ones are refused early and reach little.
NUMBERS = st.one_of(
    st.integers(-2, 8),
    st.integers(-2, 300),
    st.sampled_from([255, 256, 579, 580, 2**30 - 1, 2**30, 2**31 - 1, 2**31, -(2**31), 2**63, -(2**70)]),
)
WEIGHTED = st.sampled_from(
    [name for name in NAMES if not name.endswith(("close", "close_context"))]
    + ["continue"] * 8
    + ["sample"] * 6
    + ["chain_good"] * 3
)
CALLS = st.lists(
    st.tuples(st.one_of(WEIGHTED, WEIGHTED, WEIGHTED, st.sampled_from(NAMES)), NUMBERS, NUMBERS, NUMBERS),
    min_size=1,
    max_size=40,
)
OPTIONS = st.sampled_from(
    [
        {},
        {"kv_unified": False},
        {"embeddings": True, "pooling": "none"},
        {"embeddings": True, "pooling": "mean", "n_ubatch": 33},
        {"embeddings": True, "pooling": "rank", "n_ubatch": 33},
        {"embeddings": True, "pooling": "last", "kv_unified": False},
        {"type_k": "q8_0", "type_v": "q8_0"},
        {"flash_attn": False},
    ]
)


class Worker:
    """A child that plays lists of calls; restarted after a crash, so that hypothesis can shrink."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def play(self, options: dict[str, object], calls: list[object]) -> str:
        if self.process is None:
            command = [sys.executable, "-W", "error", str(WORKER)]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps([options, calls]) + "\n")
            self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if answer:
            return str(json.loads(answer))
        return f"the process died with {self.close()}"

    def close(self) -> int:
        assert self.process is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.communicate()
        code = self.process.returncode
        self.process = None
        return code


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    child = Worker()
    yield child
    if child.process is not None:
        assert child.close() == 0


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(options=OPTIONS, calls=CALLS)
def test_no_call_ends_the_process(worker: Worker, options: dict[str, object], calls: list[object]) -> None:
    assert worker.play(options, calls) == "ok"
