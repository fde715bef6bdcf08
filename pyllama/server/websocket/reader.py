"""Readers of events, whether the stream is a conversation's or this request's alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pyllama.errors import InvalidRequestError, NotFoundError
from pyllama.loop import StreamReader
from pyllama.server.session import Chunk
from pyllama.server.state import ServerState

if TYPE_CHECKING:
    from pyllama._core import _llama

__all__ = ["EventReader", "attach_reader", "open_reader"]


class EventReader(Protocol):
    """What delivers a stream event by event; a SessionReader is one."""

    stream: _llama.Stream
    offset: int
    finished: bool

    def read_events(self) -> list[tuple[int | None, bytes]]:
        """Return the new events with their ids, perhaps none. Never waits."""

    async def wait(self) -> None:
        """Return when read_events() should be called again."""

    def close(self) -> None:
        """Leave; idempotent."""

    def abandon(self) -> None:
        """End the request, if nobody else may come for it."""


class _OwnReader:
    """The only reader that a stream will have."""

    def __init__(self, reader: StreamReader) -> None:
        self.stream = reader.stream
        self.offset = 0
        self.finished = False
        self._reader = reader

    def read_events(self) -> list[tuple[int | None, bytes]]:
        chunk = Chunk(self.stream, self.offset)
        self.offset = chunk.next_offset
        self.finished = chunk.finished
        if self.offset < chunk.end_offset:
            self._reader.watch.wake()  # there is more already
        return chunk.events()

    async def wait(self) -> None:
        await self._reader.watch.wait()

    def close(self) -> None:
        self._reader.close()

    def abandon(self) -> None:
        self._reader.abandon()


def open_reader(
    state: ServerState, prepared: _llama.Prepared, owner: bytes, conversation_id: str | None
) -> EventReader:
    """Queue a prepared request and return its reader.

    Raises:
        EngineBusyError: The queue is full, or there are too many conversations.
        InvalidRequestError: The conversation's id is too long.
    """
    if conversation_id is None:
        return _OwnReader(state.submit(prepared, owner))
    return state.open_session(prepared, owner, conversation_id).attach(replay=False)


def attach_reader(
    state: ServerState, owner: bytes, conversation_id: str, after: int | None, content_type: str
) -> EventReader:
    """Return a reader of a conversation, behind an event.

    Raises:
        NotFoundError: This owner has no such conversation.
        StreamGapError: The events there are gone.
        InvalidRequestError: There is no such event, or the conversation's events are in another format.
    """
    session = state.sessions.get(owner, conversation_id)
    if session is None:
        raise NotFoundError("the conversation is not found, or has expired")
    if session.stream.content_type != content_type:
        raise InvalidRequestError("the conversation was begun in another protocol", param="conversation_id")
    return session.attach(after=after)
