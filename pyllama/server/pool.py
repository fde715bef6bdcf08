"""Threads for short calls into the core that release the GIL.

anyio's are for any function and any length; these are for what happens once per request, and cost a third.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

__all__ = ["CallPool"]

T = TypeVar("T")

_Call = tuple[asyncio.Future[Any], Callable[..., Any], tuple[Any, ...]]


class CallPool:
    """At most ``n_threads`` calls at a time; others wait, in order. For one loop's thread."""

    def __init__(self, n_threads: int) -> None:
        self._limit = n_threads
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._n_threads = 0
        self._n_open = 0

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """Return what ``function(*args)`` returns, or raise what it raises.

        A cancelled call that has begun goes on, and nobody hears of its end.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._n_open += 1
        if self._n_threads < min(self._n_open, self._limit):
            self._n_threads += 1
            threading.Thread(target=self._run, name="pyllama-call", daemon=True).start()
        self._calls.put((future, function, args))
        try:
            return await future
        finally:
            self._n_open -= 1

    def close(self) -> None:
        """End the threads, each after its call. Nothing may be run any more."""
        for _ in range(self._n_threads):
            self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            future, function, args = call
            result: Any = None
            error: BaseException | None = None
            if not future.cancelled():
                try:
                    result = function(*args)
                except BaseException as exc:
                    error = exc
            try:
                future.get_loop().call_soon_threadsafe(_settle, future, result, error)
            except RuntimeError:  # the loop was closed
                return
            del call, future, function, args, result, error  # nothing is held while it waits


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
