"""A transport that sends what is written in one turn of the loop as one.

Hypercorn writes a response's head, each piece of its body and its end by themselves, and each write is a
system call and a packet. Put between Hypercorn's streams and the socket, this makes one of them, without
either knowing: the head goes with the first event, the last event with the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

__all__ = ["CoalescingTransport"]

# Bytes that are held back at most: beyond that a copy costs more than a call, and drain() must see them.
_MOST = 64 * 1024

_Bytes = bytes | bytearray | memoryview


class CoalescingTransport(asyncio.Transport):
    """Wraps a transport. What is written is sent in the loop's next turn, or with what cannot wait."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._held: list[_Bytes] = []
        self._n_held = 0
        self._ended = False

    def write(self, data: _Bytes) -> None:
        """Send ``data`` soon.

        Raises:
            RuntimeError: write_eof() came first.
        """
        if self._ended:
            raise RuntimeError("write() after write_eof()")  # as every transport: it must not come later
        if not self._held:
            self._loop.call_soon(self.flush)
        self._held.append(bytes(data))
        self._n_held += len(data)
        if self._n_held > _MOST:
            self.flush()

    def writelines(self, list_of_data: Iterable[_Bytes]) -> None:
        """As write(), for several."""
        self.write(b"".join(list_of_data))

    def write_now(self, data: bytes) -> None:
        """Send ``data`` at once, behind all that was written before."""
        if self._held:
            self._held.append(data)
            self.flush()
        else:
            self._transport.write(data)

    def flush(self) -> None:
        """Send what is held back."""
        if self._held:
            data = self._held[0] if len(self._held) == 1 else b"".join(self._held)
            self._held.clear()
            self._n_held = 0
            self._transport.write(data)

    @property
    def idle(self) -> bool:
        """Whether it is open, and the socket has taken all that was written."""
        transport = self._transport
        return not self._held and transport.get_write_buffer_size() == 0 and not transport.is_closing()

    def get_write_buffer_size(self) -> int:
        """Return the bytes that the socket has not taken yet."""
        return self._n_held + self._transport.get_write_buffer_size()

    def write_eof(self) -> None:
        self.flush()
        self._ended = True
        self._transport.write_eof()

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        self._held.clear()
        self._n_held = 0
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def can_write_eof(self) -> bool:
        return self._transport.can_write_eof()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._transport.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._transport.set_write_buffer_limits(high, low)

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def is_reading(self) -> bool:
        return self._transport.is_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._transport.set_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._transport.get_protocol()
