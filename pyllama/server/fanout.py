"""Waking the readers of one stream: each time while they are few, in rounds when they are many."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pyllama.loop import Wakeable

__all__ = ["Fanout"]

# Readers that are woken at once, and in one turn of the loop.
_FEW = 32
# Seconds from the beginning of one round to that of the next, for each reader. A reader costs the loop less
# than a tenth of that in a round, so the loop, and whoever shares its core, keeps its time; a thousand
# readers lag by less than half a second.
_PACE = 400e-6


class Fanout:
    """The watches of one stream's readers. For the loop's thread.

    ``begin`` is called before the first watch of a round is woken. A change during a round makes another one
    follow.
    """

    __slots__ = ("_again", "_began", "_begin", "_loop", "_pending", "_timer", "_watches")

    def __init__(self, begin: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._begin = begin
        self._watches: dict[Wakeable, None] = {}
        self._pending: list[Wakeable] = []
        self._timer: asyncio.Handle | None = None
        self._again = False
        self._began = 0.0

    def __len__(self) -> int:
        return len(self._watches)

    def add(self, watch: Wakeable) -> None:
        """Wake a watch from now on."""
        self._watches[watch] = None

    def discard(self, watch: Wakeable) -> None:
        """Wake it no more; idempotent."""
        self._watches.pop(watch, None)
        if not self._watches:
            self.close()

    def wake(self) -> None:
        """Say that something is new."""
        if self._timer is not None:
            self._again = True
        elif len(self._watches) <= _FEW:
            self._begin()
            for watch in self._watches:
                watch.wake()
        else:
            due = self._began + _PACE * len(self._watches)
            self._timer = self._loop.call_at(due, self._begin_round)

    def close(self) -> None:
        """Drop a round that is under way; idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._pending = []
        self._again = False

    def _begin_round(self) -> None:
        self._began = self._loop.time()
        self._again = False
        self._begin()
        self._pending = list(self._watches)
        self._go_on()

    # In turns, between which the loop serves others.
    def _go_on(self) -> None:
        for watch in self._pending[-_FEW:]:
            watch.wake()
        del self._pending[-_FEW:]
        if self._pending:
            self._timer = self._loop.call_soon(self._go_on)
            return
        self._timer = None
        if self._again:
            self.wake()
