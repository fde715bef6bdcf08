"""Streams of the core, as one event loop sees them.

The core tells a loop that streams changed through one descriptor (a ``Waker``); data never rides in the
wake-up. A ``LoopNotifier`` belongs to one running loop: it hands out ``Watch`` objects, one per stream, and
turns the descriptor's wake-ups into theirs. Everything here runs on the loop's thread, but for the notifier
thread of loops that cannot watch a descriptor.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import selectors
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pyllama.errors import ClosedError, StreamGapError

if TYPE_CHECKING:
    from pyllama._core import _llama

__all__ = ["LoopNotifier", "StreamReader", "Wakeable", "Watch", "read_new"]

# A read takes everything there is: the ring bounds it, and a reader that waits has then seen all.
MAX_READ = 1 << 30


def read_new(stream: _llama.Stream, offset: int) -> tuple[bytes, int, bool]:
    """Return everything from ``offset`` on, the next offset, and whether the stream ends there. Never waits.

    Raises:
        StreamGapError: The ring overtook the reader.
    """
    data: bytes
    data, following, finished, first = stream.read(offset, MAX_READ)
    if first is not None:
        raise StreamGapError(offset, first)
    return data, following, finished


class Wakeable(ABC):
    """What the core wakes by its key."""

    __slots__ = ("key",)

    def __init__(self, key: int) -> None:
        self.key: int = key

    @abstractmethod
    def wake(self) -> None:
        """Say that something is new."""


class Watch(Wakeable):
    """Wakes one task, at most one at a time. A wake that nobody waits for is kept."""

    __slots__ = ()

    @abstractmethod
    async def wait(self, dealt_with: Callable[[], bool] | None = None) -> None:
        """Return after the next wake(), or at once when there was one since the last.

        ``dealt_with``: asked at each wake, by whoever wakes; while it returns True the waiting goes on. That
        costs a fraction of resuming the task.
        """


class _AsyncioWatch(Watch):
    __slots__ = ("_dealt_with", "_loop", "_waiter", "_woken")

    def __init__(self, loop: asyncio.AbstractEventLoop, key: int) -> None:
        super().__init__(key)
        self._loop = loop
        self._dealt_with: Callable[[], bool] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._woken = False

    def wake(self) -> None:
        waiter = self._waiter
        if waiter is None:
            self._woken = True
        elif not waiter.done() and (self._dealt_with is None or not self._dealt_with()):
            waiter.set_result(None)

    async def wait(self, dealt_with: Callable[[], bool] | None = None) -> None:
        if self._woken:
            self._woken = False
            return
        self._dealt_with = dealt_with
        self._waiter = waiter = self._loop.create_future()
        try:
            await waiter
        finally:
            self._waiter = self._dealt_with = None


class _Callback(Wakeable):
    """Calls a function on the loop's thread, at every wake()."""

    __slots__ = ("_callback",)

    def __init__(self, key: int, callback: Callable[[], None]) -> None:
        super().__init__(key)
        self._callback = callback

    def wake(self) -> None:
        self._callback()


class LoopNotifier:
    """One waker, one event loop, any number of watches.

    Must be made and closed on the running loop.
    """

    def __init__(self, waker: _llama.Waker) -> None:
        self.waker = waker
        self._keys = itertools.count(1)
        self._watches: dict[int, Wakeable] = {}
        self._closed = False
        self._attach()

    def watch(self) -> Watch:
        """Return a new watch; its ``key`` is what the core is given. forget() it afterwards."""
        if self._closed:
            raise ClosedError("the event loop's notifier is closed")
        watch = self._make_watch(next(self._keys))
        self._watches[watch.key] = watch
        return watch

    def call(self, callback: Callable[[], None]) -> Wakeable:
        """As watch(), but each wake calls ``callback``, on the loop's thread."""
        if self._closed:
            raise ClosedError("the event loop's notifier is closed")
        wakeable = _Callback(next(self._keys), callback)
        self._watches[wakeable.key] = wakeable
        return wakeable

    def local_watch(self) -> Watch:
        """Return a watch that the core knows nothing of: its owner wakes it."""
        return self._make_watch(0)

    def forget(self, watch: Wakeable) -> None:
        """Drop a watch; idempotent."""
        self._watches.pop(watch.key, None)

    async def control(self, stream: _llama.Stream, request: _llama.ControlRequest) -> bytes:
        """Post a control to a stream of the core and return its answer, as JSON.

        Raises:
            InvalidRequestError: The request has no such choice.
            EngineBusyError: Too many controls of the completion are waiting.
        """
        watch = self.watch()
        post = partial(stream.control, request, self.waker, watch.key)
        try:
            if request.takes_time:
                import anyio.to_thread

                ticket = await anyio.to_thread.run_sync(post)
            else:
                ticket = post()
            while not (answer := ticket.answer()):
                if self._closed:
                    raise ClosedError("the event loop's notifier is closed")
                await watch.wait()
            return answer
        finally:
            self.forget(watch)

    def close(self) -> None:
        """Stop watching the descriptor; idempotent. Waiting tasks are woken once more."""
        if self._closed:
            return
        self._closed = True
        self._detach()
        for watch in self._watches.values():
            watch.wake()
        self._watches.clear()
        self.waker.close()

    def is_current(self) -> bool:
        """Whether the caller runs on this notifier's loop."""
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    def _attach(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread: _NotifierThread | None = None
        try:
            self._loop.add_reader(self.waker.fd, self._drain)
        except NotImplementedError:
            self._thread = _NotifierThread(self._loop, self.waker.fd, self._drain)

    def _detach(self) -> None:
        if self._thread is not None:
            self._thread.stop()
        elif not self._loop.is_closed():
            self._loop.remove_reader(self.waker.fd)

    def _make_watch(self, key: int) -> Watch:
        return _AsyncioWatch(self._loop, key)

    def _drain(self) -> None:
        if self._closed:
            return
        watches = self._watches
        # A change after this wakes again. There may be no key: its signal came when it had been taken.
        for key in self.waker.drain():
            watch = watches.get(key)
            if watch is not None:
                watch.wake()


class _NotifierThread:
    """Waits for the descriptor where the loop cannot, and calls ``drain`` on the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int, drain: Callable[[], None]) -> None:
        self._loop = loop
        self._fd = fd
        self._drain = drain
        self._drained = threading.Event()
        self._stopping = False
        self._stop_reader, self._stop_writer = os.pipe()
        self._thread = threading.Thread(target=self._run, name="pyllama-notifier", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        os.write(self._stop_writer, b"x")
        self._drained.set()
        self._thread.join()
        os.close(self._stop_reader)
        os.close(self._stop_writer)

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._fd, selectors.EVENT_READ)
            selector.register(self._stop_reader, selectors.EVENT_READ)
            while True:
                ready = {key.fd for key, _ in selector.select()}
                if self._stop_reader in ready:
                    return
                self._drained.clear()
                if self._stopping:  # and its set() may have come before our clear()
                    return
                try:
                    self._loop.call_soon_threadsafe(self._drain_and_tell)
                except RuntimeError:  # the loop was closed
                    return
                # The descriptor stays readable until the loop has drained it.
                self._drained.wait()

    def _drain_and_tell(self) -> None:
        self._drain()
        self._drained.set()


class StreamReader:
    """The bytes of one stream from its first one on: ``async for chunk in reader``.

    Each chunk is everything that was new. ``async with`` ends the subscription.

    Raises:
        StreamGapError: The ring overtook this reader.
    """

    def __init__(self, stream: _llama.Stream, notifier: LoopNotifier, watch: Watch) -> None:
        self.stream = stream
        self.watch = watch
        self.offset: int = 0
        self.finished: bool = False
        self._notifier = notifier

    def read(self) -> bytes:
        """Return what is new, perhaps nothing. Never waits."""
        data: bytes
        data, following, self.finished, first = self.stream.read(self.offset, MAX_READ)
        if first is not None:
            self.finished = True
            raise StreamGapError(self.offset, first)
        self.offset = following
        return data

    async def control(self, request: _llama.ControlRequest) -> bytes:
        """As LoopNotifier.control, for this stream."""
        return await self._notifier.control(self.stream, request)

    def close(self) -> None:
        """End the subscription; idempotent. The request itself goes on."""
        self.stream.unsubscribe(self._notifier.waker, self.watch.key)
        self._notifier.forget(self.watch)

    def abandon(self) -> None:
        """Cancel the request if it has not ended: this was its only reader."""
        if self.stream.state != "finished":
            self.stream.cancel()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self.finished:
            if data := self.read():
                return data
            if not self.finished:
                await self.watch.wait()
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
