"""The answer to one in-process request: typed deltas as they come, or all of it at the end."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pyllama.answer import Completion, ControlResult, Delta
from pyllama.deltas import collect, control_request, parse_control, parse_lines
from pyllama.loading import hold_daemon_at_exit

if TYPE_CHECKING:
    from pyllama._core import _llama
    from pyllama.loop import StreamReader

__all__ = ["Stream", "StreamBase"]


class StreamBase:
    """What is known of a request's answer so far, however it is waited for."""

    def __init__(self, stream: _llama.Stream, n_prompt_tokens: int) -> None:
        self._stream = stream
        self._new: deque[Delta] = deque()
        self._seen: list[Delta] = []
        self.id: str = stream.id
        self.n_prompt_tokens = n_prompt_tokens

    @property
    def queue_position(self) -> int | None:
        """How many requests are before this one in the queue; None once it has a slot. Any thread may ask."""
        return self._stream.queue_position

    def cancel(self) -> None:
        """End the request before its next token; idempotent. Iteration then ends. Any thread may call it."""
        self._stream.cancel()

    def _add(self, chunk: bytes) -> None:
        self._new.extend(parse_lines(chunk))

    def _take(self) -> Delta:
        delta = self._new.popleft()
        self._seen.append(delta)
        return delta

    def _raise_error(self) -> None:
        error = self._stream.error
        if error is not None:
            hold_daemon_at_exit()
            raise error


class Stream(StreamBase):
    """The running answer to one request. Iterate it once, or await ``result()``.

    Leaving the ``async for`` before the end, by ``break``, an exception or the task's cancellation, cancels
    the request before its next token; so does dropping the stream. Only an async generator of one's own
    around the loop is closed later, by its event loop: there, use ``contextlib.aclosing``.

    Belongs to the event loop of its engine.
    """

    def __init__(self, reader: StreamReader, n_prompt_tokens: int) -> None:
        super().__init__(reader.stream, n_prompt_tokens)
        self._reader = reader
        self._left = False

    def __aiter__(self) -> AsyncIterator[Delta]:
        return _Iteration(self)

    async def result(self) -> Completion:
        """Return the whole answer: wait for what is missing, and put it together with what was iterated.

        Raises:
            PyllamaError: The request failed.
        """
        async for _ in self:
            pass
        return collect(self.id, self._seen)

    async def control(self, action: str, **fields: Any) -> ControlResult:
        """Steer the request while it runs, and return what that did.

        It is applied between two tokens, whatever else the engine has to do. Needs
        ``reasoning_control=True`` in ``Engine.chat``; without it, and after the end, the result has
        ``success`` False.

        Args:
            action: "reasoning_end", "reasoning_budget", "pause", "resume", "stop", "sampling" or "inject".
            fields: For the budget ``tokens``: a number, ``"+32"`` for more, None for no limit. For sampling
                what is to change: ``temperature``, ``top_p``, ``max_tokens``, ``stop`` and the like. For all
                ``choice``, the index of one of several choices; default all. For a pause ``park``: True
                gives its slot to others. For inject ``text``.

        Raises:
            InvalidRequestError: The action is unknown, or a field is wrong.
            EngineBusyError: Too many controls of this request are waiting.
        """
        return parse_control(await self._reader.control(control_request(action, fields)))

    async def inject(self, text: str, **fields: Any) -> ControlResult:
        """Put text into the answer, as if the model had said it next: ``control("inject")``."""
        return await self.control("inject", text=text, **fields)

    async def aclose(self) -> None:
        """Cancel the request if it still runs, and let go of the stream; idempotent."""
        self._leave()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if hasattr(self, "_reader"):
            self._leave()

    def _leave(self) -> None:
        if not self._left:
            self._left = True
            if self._stream.state != "finished":
                self._stream.cancel()
            self._reader.watch.wake()  # another task may wait for the next delta
            self._reader.close()

    async def _next(self) -> Delta | None:
        reader = self._reader
        try:
            while not self._new and not reader.finished and not self._left:
                if chunk := reader.read():
                    self._add(chunk)
                elif not reader.finished:
                    await reader.watch.wait()
            if self._new:
                return self._take()
            if not self._left:
                self._raise_error()
        except BaseException:
            self._leave()
            raise
        return None


class _Iteration:
    """One ``async for`` over a stream.

    The loop holds the only reference, so leaving it destroys this object at once. An async generator would
    not do: its event loop finalises it at some later time, and trio warns.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delta:
        delta = await self._stream._next()
        if delta is None:
            raise StopAsyncIteration
        return delta

    def __del__(self) -> None:
        self._stream._leave()
