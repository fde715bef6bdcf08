r"""Responses whose body is a stream of the core: as it grows, or whole.

A streamed one goes through these states:

    queued --slot free--> open --finished--> closed
       |  \--silence--> headers and a comment --/
       \--error--> a plain HTTP error, if the headers are not out yet

From the first byte on, each wake-up costs one read and one send; nothing of a frame is looked at here. Where
that is all there is to do, it is done without resuming the task, which waits below a dozen others' frames.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import anyio
from starlette.types import Send

from pyllama.errors import PyllamaError
from pyllama.loop import StreamReader
from pyllama.server.connections import ChunkWriter, current_connection
from pyllama.server.errors import describe_exception
from pyllama.server.exchange import Exchange
from pyllama.server.session import SessionReader
from pyllama.server.settings import Settings

__all__ = ["send_head", "send_replay", "send_stream", "send_whole"]

# Server-sent events: a line that starts with a colon is a comment. Anthropic has an event for it.
_KEEP_ALIVE = b":\n\n"
_KEEP_ALIVES = {"anthropic": b'event: ping\ndata: {"type":"ping"}\n\n'}
# Bytes of one send at most.
_MAX_SEND = 256 * 1024
# Seconds between two looks at the queue, for those who asked for their place in it.
_QUEUE_LOOK = 0.5


async def send_stream(
    exchange: Exchange,
    reader: StreamReader | SessionReader,
    settings: Settings,
    ping_interval: float,
    *,
    tells_queue: bool = False,
) -> None:
    """Send a stream as it grows. Returns when it has ended, the client is gone, or it takes nothing.

    ``ping_interval``: seconds of silence before a keep-alive comment; zero or less: none.
    ``tells_queue``: while the request is queued, its position is told in comments.

    Raises:
        PyllamaError: The request failed before anything was sent.
    """
    with _Delivery(exchange, reader, settings.write_timeout, ping_interval) as delivery:
        if tells_queue and reader.stream.content_type == "text/event-stream":
            delivery.tell_queue()
        await delivery.stream()


async def send_replay(exchange: Exchange, reader: SessionReader, settings: Settings) -> None:
    """As send_stream(), from where the reader stands. The headers go out at once: the stream is there."""
    with _Delivery(exchange, reader, settings.write_timeout, settings.sse_ping_interval) as delivery:
        await delivery.stream(at_once=True)


async def send_head(send: Send, reader: SessionReader) -> None:
    """Send what send_replay() begins with, and no body."""
    await send({"type": "http.response.start", "status": 200, "headers": _stream_headers(reader)})
    await send({"type": "http.response.body", "body": b""})


async def send_whole(exchange: Exchange, reader: StreamReader | SessionReader, settings: Settings) -> None:
    """Wait until a stream has ended and send it as one body.

    Raises:
        PyllamaError: The request failed.
    """
    with _Delivery(exchange, reader, settings.write_timeout, 0) as delivery:
        await delivery.whole()


class _Delivery:
    """One body on its way to one client. Leaving it abandons the request."""

    def __init__(
        self,
        exchange: Exchange,
        reader: StreamReader | SessionReader,
        write_timeout: float,
        ping_interval: float,
    ) -> None:
        self._exchange = exchange
        self._reader = reader
        self._dialect = reader.stream.dialect
        self._headers_sent = False
        self._left: bytes | Exception | None = None
        self._chunks = ChunkWriter(exchange.scope.get("http_version", ""))
        self._scope = anyio.CancelScope()
        self._queue: _QueueComments | None = None
        self._clock = _DeliveryClock(write_timeout, ping_interval, reader.watch.wake, self._give_up)

    def __enter__(self) -> _Delivery:
        self._exchange.watch(self._client_gone)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._clock.stop()
        if self._queue is not None:
            self._queue.stop()
        self._reader.close()
        self._reader.abandon()

    def tell_queue(self) -> None:
        """Have stream() tell the request's place in the queue."""
        self._queue = _QueueComments(self._reader)

    async def stream(self, *, at_once: bool = False) -> None:
        with self._scope:
            if at_once:
                await self._send(b"", more=True)
            while not self._exchange.gone:
                left, self._left = self._left, None
                try:
                    if isinstance(left, Exception):
                        raise left
                    data = self._reader.read() if left is None else left
                except PyllamaError as exc:
                    if not self._headers_sent:
                        raise
                    await self._send(describe_exception(exc).event(self._dialect), more=False)
                    return
                if self._reader.finished and not data:
                    await self._end_without_data()
                    return
                if data or not (self._headers_sent or self._reader.stream.state == "accepted"):
                    await self._send(data, more=not self._reader.finished)
                    if self._reader.finished:
                        return
                elif self._queue is not None and (comment := self._queue.comment()):
                    await self._send(comment, more=True)
                elif self._clock.silent:
                    await self._send(_KEEP_ALIVES.get(self._dialect, _KEEP_ALIVE), more=True)
                if left is None:
                    await self._reader.watch.wait(self._pass_on)
                # Else there may be more since it was read.

    async def whole(self) -> None:
        stream = self._reader.stream
        with self._scope:
            while stream.state != "finished":
                if self._exchange.gone:
                    return
                await self._reader.watch.wait()
            if stream.error is not None:
                raise stream.error
            data = self._reader.read()
            headers = _headers(stream.content_type)
            headers.append((b"content-length", str(len(data)).encode()))
            await self._exchange.send({"type": "http.response.start", "status": 200, "headers": headers})
            await self._send_body(data, more=False)

    def _pass_on(self) -> bool:
        """Send what is new where nothing else is to be done, and return True; else leave it to stream()."""
        if not self._headers_sent or self._exchange.gone or not self._chunks.ready:
            return False
        try:
            self._left = data = self._reader.read()
        except Exception as exc:  # whatever it is, it is not for whoever wakes
            self._left = exc
            return False
        if not data or self._reader.finished:
            return False
        self._left = None
        self._chunks.write(data)
        self._clock.note_send()
        return True

    async def _send(self, data: bytes, *, more: bool) -> None:
        if self._headers_sent and more and self._chunks.ready:
            self._chunks.write(data)
            self._clock.note_send()
            return
        if not self._headers_sent:
            self._headers_sent = True
            headers = _stream_headers(self._reader)
            await self._exchange.send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send_body(data, more=more)

    async def _send_body(self, data: bytes, *, more: bool) -> None:
        while len(data) > _MAX_SEND:  # piecewise, so that a client that takes some of it counts as alive
            await self._send_piece(data[:_MAX_SEND], more=True)
            if self._exchange.gone:
                return
            data = data[_MAX_SEND:]
        await self._send_piece(data, more=more)

    async def _send_piece(self, data: bytes, *, more: bool) -> None:
        self._clock.begin_send()
        await self._exchange.send({"type": "http.response.body", "body": data, "more_body": more})
        self._clock.end_send()

    async def _end_without_data(self) -> None:
        error = self._reader.stream.error
        if error is None or self._reader.offset > 0:
            await self._send(b"", more=False)
        elif self._headers_sent:
            # It failed in the queue, after a keep-alive: no frame of it exists.
            await self._send(describe_exception(error).event(self._dialect), more=False)
        else:
            raise error

    def _client_gone(self) -> None:
        self._reader.abandon()
        self._reader.watch.wake()

    def _give_up(self) -> None:
        self._reader.abandon()
        connection = current_connection.get()
        if connection is not None:
            connection.transport.abort()
        self._scope.cancel()


class _QueueComments:
    """Tells a client its place in the queue when it has changed: a comment line, no part of the stream."""

    def __init__(self, reader: StreamReader | SessionReader) -> None:
        self._reader = reader
        self._told: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._look_again()

    def comment(self) -> bytes:
        """Return the comment, empty when there is nothing new to tell."""
        position = self._reader.stream.queue_position
        if position is None or position == self._told:
            return b""
        self._told = position
        return b": queue-position %d\n\n" % position

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_again(self) -> None:
        self.stop()
        if self._reader.stream.state == "accepted":
            self._timer = asyncio.get_running_loop().call_later(_QUEUE_LOOK, self._look_again)
            self._reader.watch.wake()


def _headers(content_type: str) -> list[tuple[bytes, bytes]]:
    if content_type == "application/json":
        content_type = "application/json; charset=utf-8"
    return [(b"content-type", content_type.encode("latin-1"))]


def _stream_headers(reader: StreamReader | SessionReader) -> list[tuple[bytes, bytes]]:
    headers = _headers(reader.stream.content_type)
    return [*headers, (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]


class _DeliveryClock:
    """One timer for two limits: how long we are silent, and how long the client takes nothing.

    A send only notes the time; the timer looks at the notes and arms itself again.
    """

    def __init__(
        self,
        write_timeout: float,
        ping_interval: float,
        on_silence: Callable[[], None],
        on_stall: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._write_timeout = write_timeout
        self._ping_interval = ping_interval if ping_interval > 0 else float("inf")
        self._on_silence = on_silence
        self._on_stall = on_stall
        self._sending = False
        self._since = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._arm(self._since)

    @property
    def silent(self) -> bool:
        """Whether nothing has been sent for the ping interval."""
        return self._loop.time() - self._since >= self._ping_interval

    def begin_send(self) -> None:
        """Note a send that may wait for the client."""
        self._sending = True
        self._since = self._loop.time()

    def end_send(self) -> None:
        """Note that the client took it."""
        self._sending = False
        self._since = self._loop.time()

    def note_send(self) -> None:
        """Note a send that did not wait."""
        self._since = self._loop.time()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # They lead back to the delivery, which holds a stream.
        del self._on_silence, self._on_stall

    def _arm(self, now: float) -> None:
        limit = self._write_timeout if self._sending else min(self._write_timeout, self._ping_interval)
        self._timer = self._loop.call_at(max(self._since + limit, now + 0.001), self._check)

    def _check(self) -> None:
        now = self._loop.time()
        quiet = now - self._since
        if self._sending:
            if quiet >= self._write_timeout:
                self._on_stall()
                return
        elif quiet >= self._ping_interval:
            self._on_silence()
        self._arm(now)
