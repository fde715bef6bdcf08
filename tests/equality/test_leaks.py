"""Random orders of submit, cancel, read and close: afterwards nothing is left of any request."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyllama import Engine
from pyllama.stream import Stream

N_SLOTS = 3

# What happens, and to which of the streams that are open.
actions = st.tuples(
    st.sampled_from(
        [
            "submit",
            "submit_choices",
            "submit_endless",
            "submit_bad",
            "cancel",
            "close",
            "finish",
            "step",
            "drop",
        ]
    ),
    st.integers(0, 7),
)


async def act(engine: Engine, open_streams: list[Stream], action: str, which: int) -> None:
    messages = [{"role": "user", "content": f"What is {which} + 2?"}]
    if action == "submit":
        open_streams.append(await engine.chat(messages, max_tokens=which, temperature=0))
    elif action == "submit_choices":
        n = 1 + which % N_SLOTS
        open_streams.append(await engine.chat(messages, max_tokens=which, temperature=0, n=n))
    elif action == "submit_endless":
        open_streams.append(await engine.chat(messages, max_tokens=-1, ignore_eos=True, n=1 + which % 2))
    elif action == "submit_bad":
        with pytest.raises(ValueError, match="messages"):
            await engine.chat([])
    elif open_streams:
        stream = open_streams[which % len(open_streams)]
        if action == "cancel":
            stream.cancel()
        elif action == "step":
            await anext(aiter(stream), None)
        elif action == "finish":
            stream.cancel()
            await stream.result()
        else:
            open_streams.remove(stream)
            if action == "drop":
                stream.cancel()
            await stream.aclose()


def all_ended(engine: Engine) -> bool:
    counts = engine.metrics()
    return counts["requests"] == sum(counts[f"requests_{how}"] for how in ("finished", "cancelled", "failed"))


async def run(orders: list[list[tuple[str, int]]]) -> None:
    async with Engine(n_ctx=1536, n_parallel=N_SLOTS, n_threads=1) as engine:
        for order in orders:
            open_streams: list[Stream] = []
            for action, which in order:
                await act(engine, open_streams, action, which)
            for stream in open_streams:
                await stream.aclose()
            async with asyncio.timeout(60):
                while not all_ended(engine) or any(slot["is_processing"] for slot in await engine.slots()):
                    pass  # slots() waits for the engine's thread
            counts = engine.metrics()
            assert counts["requests_failed"] == 0
            assert counts["requests_running"] == counts["requests_queued"] == 0


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(orders=st.lists(st.lists(actions, max_size=12), min_size=1, max_size=4))
def test_nothing_leaks(orders: list[list[tuple[str, int]]]) -> None:
    asyncio.run(run(orders))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_file_is_left_open() -> None:
    order = [("submit", 3), ("submit_endless", 1), ("step", 1), ("submit_endless", 2), ("cancel", 0)]
    asyncio.run(run([order]))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        asyncio.run(run([order, order]))
    assert len(os.listdir("/proc/self/fd")) == before
