"""The threads that calls into the core run on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from pyllama.server.pool import CallPool

pytestmark = pytest.mark.anyio


@pytest.fixture
def gates() -> Iterator[list[threading.Event]]:
    gates = [threading.Event() for _ in range(4)]
    yield gates
    for gate in gates:
        gate.set()


async def test_a_call_returns_or_raises() -> None:
    pool = CallPool(2)
    assert await pool.run(pow, 3, 4) == 81
    with pytest.raises(ZeroDivisionError):
        await pool.run(divmod, 1, 0)
    assert await asyncio.gather(*[pool.run(abs, -n) for n in range(100)]) == list(range(100))
    assert pool._n_threads == 2
    pool.close()


async def test_calls_beyond_the_threads_wait_in_order(gates: list[threading.Event]) -> None:
    pool = CallPool(1)
    begun: list[int] = []

    def call(number: int) -> int:
        begun.append(number)
        gates[number].wait()
        return number

    tasks = [asyncio.create_task(pool.run(call, number)) for number in range(4)]
    for number, task in enumerate(tasks):
        assert begun == list(range(number)) or begun == list(range(number + 1))
        gates[number].set()
        assert await task == number
    assert begun == [0, 1, 2, 3]
    pool.close()


async def test_what_was_cancelled_while_it_waited_never_begins(gates: list[threading.Event]) -> None:
    pool = CallPool(1)
    begun: list[str] = []
    first = asyncio.create_task(pool.run(gates[0].wait))
    second = asyncio.create_task(pool.run(begun.append, "second"))
    third = asyncio.create_task(pool.run(begun.append, "third"))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    gates[0].set()
    await first
    await third
    assert begun == ["third"]
    pool.close()


async def test_what_is_cancelled_while_it_runs_is_dropped(gates: list[threading.Event]) -> None:
    pool = CallPool(1)
    running = asyncio.Event()
    loop = asyncio.get_running_loop()

    def call() -> None:
        loop.call_soon_threadsafe(running.set)
        gates[0].wait()

    task = asyncio.create_task(pool.run(call))
    await running.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gates[0].set()
    assert await pool.run(abs, -1) == 1
    pool.close()


async def test_its_threads_end_with_it() -> None:
    before = set(threading.enumerate())
    pool = CallPool(3)
    await asyncio.gather(*[pool.run(abs, -n) for n in range(9)])
    threads = set(threading.enumerate()) - before
    assert threads
    pool.close()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
