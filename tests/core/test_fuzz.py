"""Random calls, valid and not, in a child process: none of them may end it."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

WORKER = Path(__file__).with_name("fuzz_worker.py")
# `make fuzz` asks for more.
EXAMPLES = int(os.environ.get("PYLLAMA_FUZZ_EXAMPLES", "300"))
SEED = int(os.environ.get("PYLLAMA_FUZZ_SEED", "20"))


def ask_worker() -> tuple[list[str], list[str]]:
    """Return the names of the calls and of the tiny models; this process is to make no handles."""
    command = [sys.executable, "-W", "error", str(WORKER), "--names"]
    calls, models = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return calls, models


NAMES, TINY = ask_worker()
# Mostly values that are nearly right: far-off ones are refused early and reach little.
NUMBERS = st.one_of(
    st.integers(-2, 8),
    st.integers(-2, 300),
    st.sampled_from([255, 256, 579, 580, 2**30 - 1, 2**30, 2**31 - 1, 2**31, -(2**31), 2**63, -(2**70)]),
)
WEIGHTED = st.sampled_from(
    [name for name in NAMES if not name.endswith(("close", "close_context"))]
    + ["continue", "continue_one"] * 8
    + ["sample"] * 6
    + ["chain_good", "graph_good", "take_back", "sampled", "accept_in_graph"] * 3
)
CALLS = st.lists(
    st.tuples(st.one_of(WEIGHTED, WEIGHTED, WEIGHTED, st.sampled_from(NAMES)), NUMBERS, NUMBERS, NUMBERS),
    min_size=1,
    max_size=40,
)
OPTIONS = st.fixed_dictionaries(
    {"model": st.sampled_from(["demo"] * 5 + TINY)},
    optional={
        "kv_unified": st.booleans(),
        "embeddings": st.just(True),
        "pooling": st.sampled_from([None, "none", "mean", "cls", "last", "rank"]),
        "n_ubatch": st.sampled_from([8, 32, 33, 64]),
        "type_k": st.sampled_from(["f16", "q8_0", "q4_0", "f32"]),
        "type_v": st.sampled_from(["f16", "q8_0"]),
        "flash_attn": st.booleans(),
        "swa_full": st.booleans(),
        "n_outputs_max": st.sampled_from([1, 4, 64]),
        "n_outputs_max_per_seq": st.sampled_from([1, 2, 64, 65]),
        "n_rs_seq": st.sampled_from([1, 3, 6, 30, 31]),
        "attention_type": st.sampled_from([None, "causal", "non-causal"]),
    },
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


@seed(SEED)
@settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(options=OPTIONS, calls=CALLS)
def test_no_call_ends_the_process(worker: Worker, options: dict[str, object], calls: list[object]) -> None:
    assert worker.play(options, calls) == "ok"
