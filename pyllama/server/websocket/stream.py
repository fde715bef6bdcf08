"""Hypercorn's side of a WebSocket, bounded.

Hypercorn 0.18 lets a message that is too long grow on, and does not tell the application; it compresses each
frame for whoever offers that, at the cost of a compressor per socket and a small message that inflates to a
thousand times its size; and it never looks whether its pings are answered.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import Any

import hypercorn.protocol.h2
import hypercorn.protocol.h11
from hypercorn.protocol.events import Body, Data, Event, Request, StreamClosed
from hypercorn.protocol.ws_stream import FrameTooLargeError, WSStream
from wsproto.events import BytesMessage, Ping

from pyllama.server.connections import current_connection

__all__ = ["BoundedStream", "install"]

# Seconds in which a client may take leave after a message that was too long; what it sends is dropped.
_LINGER = 5.0
# Intervals of pings without a sign of life after which a client counts as gone.
_MAX_SILENT = 3

_TOO_LONG = 1009
_PROTOCOL_ERROR = 1002


def install() -> None:
    """Let Hypercorn make its WebSockets of this kind, in the whole process. Idempotent."""
    hypercorn.protocol.h11.WSStream = BoundedStream  # type: ignore[assignment, attr-defined]
    hypercorn.protocol.h2.WSStream = BoundedStream  # type: ignore[assignment, attr-defined]


class _Message:
    """The parts of one message. Nothing beyond the limit is kept."""

    def __init__(self, max_length: int) -> None:
        self.overrun = False
        self._max_length = max_length
        self._parts: list[Any] = []
        self._length = 0
        self._binary = False

    def extend(self, event: Any) -> None:
        self._length += len(event.data)
        if self._length > self._max_length:
            self.overrun = True
            self._parts.clear()
            raise FrameTooLargeError
        self._binary = isinstance(event, BytesMessage)
        self._parts.append(event.data)

    def clear(self) -> None:
        self._parts.clear()
        self._length = 0

    def to_message(self) -> dict[str, Any]:
        data = (b"" if self._binary else "").join(self._parts)
        return {
            "type": "websocket.receive",
            "bytes": data if self._binary else None,
            "text": None if self._binary else data,
        }


async def _drop(_: Any) -> None:
    pass


class BoundedStream(WSStream):
    """A WebSocket that is not compressed, whose messages are limited, and whose client must be alive."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._message = _Message(self.config.websocket_max_message_size)
        self.buffer = self._message  # type: ignore[assignment]
        self._heard = True
        self._ended = asyncio.Event()
        self._refusing = False

    async def handle(self, event: Event) -> None:
        """As the base class: an event of the connection."""
        if isinstance(event, Request):
            offers = b"sec-websocket-extensions"
            kept = [pair for pair in event.headers if pair[0].lower() != offers]
            await super().handle(replace(event, headers=kept))
        elif isinstance(event, (Body, Data)):
            self._heard = True
            if not (self.closed or self._refusing):
                await self._take(event)
        else:
            if isinstance(event, StreamClosed):
                self._ended.set()
            await super().handle(event)

    async def _take(self, event: Event) -> None:
        early = not self.handshake.accepted
        await super().handle(event)
        if early:  # it was refused before the application has accepted the socket
            await self._tell_application(_PROTOCOL_ERROR)
            await self.send(StreamClosed(stream_id=self.stream_id))
        elif self._message.overrun and not self.closed:
            self._refusing = True
            await self._tell_application(_TOO_LONG)

    async def _tell_application(self, code: int) -> None:
        if self.app_put is not None:
            await self.app_put({"type": "websocket.disconnect", "code": code})

    async def app_send(self, message: Any) -> None:
        """As the base class: a message of the application, None at its end."""
        if message is None:
            # Nobody takes anything out of the application's queue any more, and a full one would block us.
            self.app_put = _drop
            if self._refusing:
                # A socket that is closed with bytes unread is reset, and the client never sees why.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LINGER):
                        await self._ended.wait()
        await super().app_send(message)

    async def _send_pings(self) -> None:
        if self.handshake.http_version != "1.1":
            await super()._send_pings()  # the connection is not this socket's alone
            return
        interval = self.config.websocket_ping_interval
        connection = current_connection.get()
        n_silent = 0
        while not self.closed and interval is not None and connection is not None:
            self._heard = False
            # One that takes nothing is told so by the write timeout, if there is anything to write.
            if connection.transport.get_write_buffer_size() == 0:
                await self._send_wsproto_event(Ping())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval):
                    await self._ended.wait()
            n_silent = 0 if self._heard else n_silent + 1
            if n_silent >= _MAX_SILENT:
                connection.transport.abort()
                return
