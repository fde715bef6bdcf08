r"""One conversation's stream, which outlives the connections that read it.

    live --the producer ends it--> ended
      \--deleted or replaced--> cut: cancelled, its readers get an error

The core tells a session once of each change, whatever the number of its readers. Readers that stand at the
same offset get the same bytes object. Everything here is for the loop's thread.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyllama.errors import InvalidRequestError, PyllamaError, StreamGapError
from pyllama.loop import LoopNotifier, Wakeable
from pyllama.server.fanout import Fanout

if TYPE_CHECKING:
    from pyllama._core import _llama

__all__ = ["Chunk", "Session", "SessionCounters", "SessionReader"]

# Bytes of one read at most, about. Reads end at multiples of it, so that readers that began at different
# offsets soon share their chunks.
_CHUNK = 256 * 1024
# Chunks that are remembered for other readers.
_N_SHARED = 4
_MAX_OFFSET = (1 << 64) - 1


@dataclass(slots=True)
class SessionCounters:
    """What all sessions of a server count together."""

    n_readers: int = 0
    n_replays: int = 0
    n_gaps: int = 0


class Chunk:
    """Whole events of a stream, from an offset on, as the core read them."""

    __slots__ = (
        "_numbered",
        "data",
        "end_offset",
        "event_ends",
        "finished",
        "first_event",
        "next_offset",
        "whole",
    )

    def __init__(self, stream: _llama.Stream, offset: int) -> None:
        read = stream.read_events(offset, _CHUNK - offset % _CHUNK)
        self.data, self.next_offset, self.finished, first_kept, self.end_offset = read[:5]
        # The first event may have begun before the chunk: then it is not whole.
        self.first_event, self.whole, self.event_ends = read[5:]
        self._numbered: bytes | None = None
        if first_kept is not None:
            raise StreamGapError(offset, first_kept)

    def events(self) -> list[tuple[int | None, bytes]]:
        """Return the events with their ids; what is left of one that began before the chunk has none."""
        begin = self.next_offset - len(self.data)
        found: list[tuple[int | None, bytes]] = []
        position = 0
        for number, end in enumerate(self.event_ends, self.first_event):
            named = number if self.whole or found else None
            found.append((named, self.data[position : end - begin]))
            position = end - begin
        return found

    def numbered(self) -> bytes:
        """Return the events, of a stream of server-sent ones, with an ``id:`` line each."""
        if self._numbered is None:
            self._numbered = b"".join(
                data if number is None else b"id: %d\n%b" % (number, data) for number, data in self.events()
            )
        return self._numbered


class Session:
    """A stream under its owner's conversation id. Made by Sessions.open()."""

    __slots__ = (
        "__weakref__",
        "_chunks",
        "_counters",
        "_cut",
        "_fanout",
        "_notifier",
        "_on_end",
        "_watch",
        "completed_at",
        "conversation_id",
        "ended_at",
        "owner",
        "receipt",
        "started_at",
        "stream",
    )

    def __init__(
        self,
        owner: bytes,
        conversation_id: str,
        stream: _llama.Stream,
        notifier: LoopNotifier,
        counters: SessionCounters,
        on_end: Callable[[Session], None],
    ) -> None:
        self.owner = owner
        self.conversation_id = conversation_id
        self.stream = stream
        self.started_at = time.time()
        self.completed_at = 0.0  # by the clock; 0 while it lives
        self.receipt = b""  # what was answered at once, of an answer that is made in the background
        self.ended_at = 0.0  # the store's: by its loop's time
        self._notifier = notifier
        self._counters = counters
        self._on_end: Callable[[Session], None] | None = on_end
        self._cut: PyllamaError | None = None
        self._chunks: dict[int, Chunk] = {}
        self._fanout: Fanout | None = None  # only while there are readers
        self._watch: Wakeable | None = notifier.call(self._changed)
        stream.subscribe(notifier.waker, self._watch.key)

    @property
    def ended(self) -> bool:
        """Whether its stream has ended, and it has noticed."""
        return self._on_end is None

    @property
    def n_readers(self) -> int:
        """Readers that are attached."""
        return 0 if self._fanout is None else len(self._fanout)

    def attach(
        self, offset: int = 0, *, after: int | None = None, numbered: bool = False, replay: bool = True
    ) -> SessionReader:
        """Return a new reader, from a byte offset on or from the event behind the one with the id ``after``.

        ``numbered``: its read() adds id lines, if the events are server-sent ones. ``replay``: it counts as
        one.

        Raises:
            StreamGapError: The bytes there are gone.
            InvalidRequestError: There is no such event, or the offset is out of range.
        """
        if after is not None:
            found = self.stream.offset_after(after) if 0 <= after <= _MAX_OFFSET else None
            if found is None:
                raise InvalidRequestError(f"the stream has no event {after}", param="after")
            offset = found
        if not 0 <= offset <= _MAX_OFFSET:
            raise InvalidRequestError(f"the offset {offset} is out of range", param="from")
        try:
            self.read(offset)
        except StreamGapError:
            self._counters.n_gaps += 1
            raise
        self._counters.n_readers += 1
        self._counters.n_replays += replay
        if self._fanout is None:
            self._fanout = Fanout(self._chunks.clear)
        numbered = numbered and self.stream.content_type == "text/event-stream"
        reader = SessionReader(self, offset, self._notifier, numbered=numbered)
        self._fanout.add(reader.watch)
        return reader

    def read(self, offset: int) -> Chunk:
        """Return what there is from ``offset`` on, up to about 256 KiB, perhaps nothing. Never waits.

        Raises:
            StreamGapError: It is gone.
            NotFoundError: The session was deleted or replaced while it lived.
        """
        if self._cut is not None:
            raise self._cut
        chunk = self._chunks.get(offset)
        if chunk is None:
            chunk = Chunk(self.stream, offset)
            if chunk.data:
                if len(self._chunks) == _N_SHARED:
                    del self._chunks[next(iter(self._chunks))]
                self._chunks[offset] = chunk
        return chunk

    async def control(self, request: _llama.ControlRequest) -> bytes:
        """As LoopNotifier.control, for its stream, which must not have ended."""
        return await self._notifier.control(self.stream, request)

    def cut(self, reason: PyllamaError) -> None:
        """Cancel the request if it has not ended; its readers get ``reason``. After its end, do nothing."""
        self._changed()
        if self.ended:
            return
        self._cut = reason
        self.stream.cancel()
        self._unwatch()
        self._wake_readers()

    def _detach(self, reader: SessionReader, *, overtaken: bool) -> None:
        self._counters.n_readers -= 1
        self._counters.n_gaps += overtaken
        assert self._fanout is not None
        self._fanout.discard(reader.watch)
        if not len(self._fanout):
            self._fanout = None
            self._chunks.clear()

    def _changed(self) -> None:
        if not self.ended and self.stream.state == "finished":
            self.completed_at = time.time()
            on_end, self._on_end = self._on_end, None
            self._unwatch()
            # The model and the engine may go before what is kept of their answers.
            self.stream.detach()
            assert on_end is not None
            on_end(self)
        self._wake_readers()

    def _wake_readers(self) -> None:
        if self._fanout is not None:
            self._fanout.wake()

    def _unwatch(self) -> None:
        if self._watch is not None:
            self.stream.unsubscribe(self._notifier.waker, self._watch.key)
            self._notifier.forget(self._watch)
            self._watch = None  # it leads back here: the stream's bytes are not to wait for the collector


class SessionReader:
    """One reader of a session, with an offset of its own. It leaves the session as it is, whatever it does.

    As loop.StreamReader, for those who deliver a stream.
    """

    __slots__ = ("_closed", "_numbered", "_overtaken", "_session", "finished", "offset", "stream", "watch")

    def __init__(self, session: Session, offset: int, notifier: LoopNotifier, *, numbered: bool) -> None:
        self.stream = session.stream
        self.offset = offset
        self.finished = False
        self.watch = notifier.local_watch()
        self._session = session
        self._numbered = numbered
        self._overtaken = False
        self._closed = False

    @property
    def session(self) -> Session:
        """What it reads."""
        return self._session

    def read(self) -> bytes:
        """Return what is new, up to about 256 KiB, perhaps nothing. Never waits.

        Raises:
            StreamGapError: The ring overtook this reader.
            NotFoundError: The session was deleted or replaced while it lived.
        """
        chunk = self._next()
        if chunk is None:
            return b""
        return chunk.numbered() if self._numbered else chunk.data

    def read_events(self) -> list[tuple[int | None, bytes]]:
        """As read(): the new events with their ids.

        The rest of an event that began before the reader's first offset has no id.
        """
        chunk = self._next()
        return [] if chunk is None else chunk.events()

    async def wait(self) -> None:
        """Return when read() should be called again."""
        await self.watch.wait()

    def abandon(self) -> None:
        """Do nothing: the request goes on without its readers."""

    def close(self) -> None:
        """Leave; idempotent."""
        if not self._closed:
            self._closed = True
            self._session._detach(self, overtaken=self._overtaken)

    def _next(self) -> Chunk | None:
        if self.finished:
            return None
        try:
            chunk = self._session.read(self.offset)
        except PyllamaError as exc:
            self.finished = True
            self._overtaken = isinstance(exc, StreamGapError)
            raise
        self.offset = chunk.next_offset
        self.finished = chunk.finished
        if self.offset < chunk.end_offset:
            # There is more already; others get their turn before it.
            asyncio.get_running_loop().call_soon(self.watch.wake)
        return chunk
