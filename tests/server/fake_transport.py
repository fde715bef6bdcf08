"""A stand-in for a socket's transport."""

from __future__ import annotations

import asyncio
from typing import Any


class Socket(asyncio.Transport):
    """A transport that takes so many bytes, and keeps the writes apart."""

    def __init__(self, room: int = 1 << 30) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.ends: list[str] = []
        self._room = room
        self._waiting = 0

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))
        self._waiting = max(0, sum(map(len, self.writes)) - self._room)

    def get_write_buffer_size(self) -> int:
        return self._waiting

    def take_all(self) -> None:
        """Take what waits, and from now on everything."""
        self._room = 1 << 30
        self._waiting = 0

    def is_closing(self) -> bool:
        return bool(self.ends)

    def close(self) -> None:
        self.ends.append("close")

    def abort(self) -> None:
        self.ends.append("abort")

    def write_eof(self) -> None:
        self.ends.append("eof")
