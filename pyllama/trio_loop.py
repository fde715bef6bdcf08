"""Streams of the core, as a trio run sees them: what loop.py does for asyncio.

A system task waits for the waker's descriptor; it ends with the run, or when the notifier is closed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from pyllama.loop import LoopNotifier, Watch

__all__ = ["TrioNotifier", "in_trio"]


def in_trio() -> bool:
    """Whether the caller is a task of trio; with trio on top of asyncio both loops run."""
    trio: Any = sys.modules.get("trio")
    return trio is not None and bool(trio.lowlevel.in_trio_task())


class TrioWatch(Watch):
    """A watch whose waiter is a trio task."""

    __slots__ = ("_dealt_with", "_event")

    def __init__(self, key: int) -> None:
        import trio

        super().__init__(key)
        self._dealt_with: Callable[[], bool] | None = None
        self._event = trio.Event()

    def wake(self) -> None:
        if self._dealt_with is None or not self._dealt_with():
            self._event.set()

    async def wait(self, dealt_with: Callable[[], bool] | None = None) -> None:
        import trio

        self._dealt_with = dealt_with
        try:
            await self._event.wait()
        finally:
            self._dealt_with = None
        self._event = trio.Event()


class TrioNotifier(LoopNotifier):
    """One waker, one trio run, any number of watches. Must be made and closed inside that run."""

    def _attach(self) -> None:
        import trio

        self._scope = trio.CancelScope()
        self._token = trio.lowlevel.current_trio_token()
        trio.lowlevel.spawn_system_task(self._wait_for_wakes, name="pyllama notifier")

    def _detach(self) -> None:
        self._scope.cancel()

    def is_current(self) -> bool:
        import trio

        return in_trio() and trio.lowlevel.current_trio_token() is self._token

    def _make_watch(self, key: int) -> Watch:
        return TrioWatch(key)

    async def _wait_for_wakes(self) -> None:
        import trio

        with self._scope:
            while True:
                await trio.lowlevel.wait_readable(self.waker.fd)
                self._drain()
