from __future__ import annotations

import asyncio

import pytest

from pyllama.loop import Wakeable
from pyllama.server.fanout import Fanout

pytestmark = pytest.mark.anyio


class Counter(Wakeable):
    """Counts its wakes, and at each of them may do something."""

    def __init__(self) -> None:
        super().__init__(0)
        self.n_wakes = 0
        self.woken = asyncio.Event()

    def wake(self) -> None:
        self.n_wakes += 1
        self.woken.set()


def crowd(n: int) -> tuple[Fanout, list[Counter], list[int]]:
    """A fanout to so many watches, and the number of their wakes when each round began."""
    watches = [Counter() for _ in range(n)]
    rounds: list[int] = []
    fanout = Fanout(lambda: rounds.append(sum(watch.n_wakes for watch in watches)))
    for watch in watches:
        fanout.add(watch)
    return fanout, watches, rounds


async def all_woken(watches: list[Counter], n_wakes: int) -> None:
    async with asyncio.timeout(20):
        for watch in watches:
            while watch.n_wakes < n_wakes:
                watch.woken.clear()
                await watch.woken.wait()


async def test_few_are_woken_at_once() -> None:
    fanout, watches, rounds = crowd(3)
    fanout.wake()
    fanout.wake()
    assert [watch.n_wakes for watch in watches] == [2, 2, 2]
    assert rounds == [0, 3]


async def test_a_crowd_is_woken_in_turns_of_the_loop() -> None:
    fanout, watches, rounds = crowd(100)
    fanout.wake()
    assert not any(watch.n_wakes for watch in watches)
    most_in_a_turn = seen = 0
    async with asyncio.timeout(20):
        while seen < 100:
            await asyncio.sleep(0)
            now = sum(watch.n_wakes for watch in watches)
            most_in_a_turn, seen = max(most_in_a_turn, now - seen), now
    assert most_in_a_turn <= 32
    assert rounds == [0]
    assert all(watch.n_wakes == 1 for watch in watches)


async def test_changes_before_a_round_are_one_and_changes_during_it_are_another() -> None:
    fanout, watches, rounds = crowd(100)
    for _ in range(10):
        fanout.wake()
    await all_woken(watches[-1:], 1)
    fanout.wake()  # while some have been woken and others have not
    fanout.wake()
    await all_woken(watches, 2)
    assert rounds == [0, 100]
    for _ in range(10):
        await asyncio.sleep(0)
    assert all(watch.n_wakes == 2 for watch in watches)


async def test_who_comes_during_a_round_is_woken_by_the_next_change() -> None:
    fanout, watches, _ = crowd(100)
    fanout.wake()
    await all_woken(watches[-1:], 1)
    late = Counter()
    fanout.add(late)
    fanout.wake()
    await all_woken([*watches, late], 1)
    fanout.close()


async def test_a_fanout_without_watches_leaves_nothing_on_the_loop() -> None:
    fanout, watches, rounds = crowd(100)
    fanout.wake()
    for watch in watches:
        fanout.discard(watch)
        fanout.discard(watch)
    assert len(fanout) == 0
    for _ in range(3):
        await asyncio.sleep(0)
    assert rounds == []
    fanout.wake()
    assert not any(watch.n_wakes for watch in watches)
