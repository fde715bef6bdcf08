"""The sessions of a server: which conversations can be read again, and for how long.

One conversation of one owner has at most one session. A session lives as long as its stream, then it is kept
for ``--stream-retention``, unless it is deleted, replaced, one of too many (``--max-streams``), or evicted by
the core, which holds all streams to ``--max-stream-bytes``. Everything here is for the loop's thread.
"""

from __future__ import annotations

import asyncio
import bisect
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pyllama.errors import EngineBusyError, NotFoundError
from pyllama.loop import LoopNotifier
from pyllama.server.session import Session, SessionCounters

if TYPE_CHECKING:
    from pyllama._core import _llama

__all__ = ["Sessions"]

# Bytes of a session that are not in its ring: its objects, beside its id.
_OVERHEAD = 4096


class Sessions:
    """The store. Made on a running loop."""

    def __init__(self, notifier: LoopNotifier, *, retention: float, max_streams: int) -> None:
        self.counters = SessionCounters()
        self.n_evicted = 0  # because there were too many; the core counts those that were too large
        self._loop = asyncio.get_running_loop()
        self._notifier = notifier
        self._retention = retention
        self._max_streams = max_streams
        self._sessions: dict[tuple[bytes, str], Session] = {}
        self._ids: dict[bytes, list[str]] = {}  # of each owner, sorted
        self._ended: dict[Session, None] = {}  # that ended first is first
        self._timer: asyncio.TimerHandle | None = None

    @property
    def n_live(self) -> int:
        """Sessions whose stream goes on."""
        return len(self._sessions) - len(self._ended)

    @property
    def n_kept(self) -> int:
        """Sessions whose stream has ended."""
        self._forget_evicted()
        return len(self._ended)

    def check_room(self, owner: bytes, conversation_id: str) -> None:
        """Raise EngineBusyError if open() would have no room: all conversations are running."""
        if (
            len(self._sessions) >= self._max_streams
            and not self._ended
            and (owner, conversation_id) not in self._sessions
        ):
            raise EngineBusyError(f"too many conversations are running ({self._max_streams}, --max-streams)")

    def open(self, owner: bytes, conversation_id: str, stream: _llama.Stream) -> Session:
        """Make the session of a stream that was just submitted; a live one of the same id is cancelled."""
        self._remove(
            owner, conversation_id, NotFoundError("the stream was replaced by its conversation's next")
        )
        self._forget_evicted()
        while len(self._sessions) >= self._max_streams and self._ended:
            self.n_evicted += 1
            self._forget(next(iter(self._ended)))
        stream.keep(_OVERHEAD + 2 * len(conversation_id))
        session = Session(owner, conversation_id, stream, self._notifier, self.counters, self._note_end)
        self._sessions[owner, conversation_id] = session
        bisect.insort(self._ids.setdefault(owner, []), conversation_id)
        return session

    def get(self, owner: bytes, conversation_id: str) -> Session | None:
        """Return an owner's session, None when there is none or no longer."""
        session = self._sessions.get((owner, conversation_id))
        if session is not None and session.stream.evicted:
            self._forget(session)
            return None
        return session

    def delete(self, owner: bytes, conversation_id: str) -> None:
        """Cancel and forget a session; idempotent."""
        self._remove(owner, conversation_id, NotFoundError("the stream was deleted"))

    def lookup(self, owner: bytes, conversation_ids: Iterable[str]) -> list[dict[str, Any]]:
        """Describe the owner's sessions with one of these ids, or with ``<id>::<model>``, each once."""
        ids = self._ids.get(owner, [])
        found: dict[str, None] = {}
        for wanted in conversation_ids:
            if (owner, wanted) in self._sessions:
                found[wanted] = None
            variants = wanted + "::"
            for position in range(bisect.bisect_left(ids, variants), len(ids)):
                if not ids[position].startswith(variants):
                    break
                found[ids[position]] = None
        sessions = [session for name in found if (session := self.get(owner, name)) is not None]
        return [
            {
                "conversation_id": session.conversation_id,
                "is_done": session.ended,
                "total_bytes": session.stream.end_offset,
                "started_at": int(session.started_at),
                "completed_at": int(session.completed_at),
            }
            for session in sessions
        ]

    def metrics(self) -> dict[str, float]:
        """Return the counters and gauges, for the metrics page."""
        return {
            "sessions_kept": self.n_kept,
            "sessions_live": self.n_live,
            "session_readers": self.counters.n_readers,
            "session_replays": self.counters.n_replays,
            "session_gaps": self.counters.n_gaps,
            "session_evictions": self.n_evicted,
        }

    def close(self) -> None:
        """Forget all; idempotent. Streams that run are the engine's to end."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._sessions.clear()
        self._ids.clear()
        self._ended.clear()

    def _remove(self, owner: bytes, conversation_id: str, reason: NotFoundError) -> None:
        session = self._sessions.get((owner, conversation_id))
        if session is not None:
            session.cut(reason)
            self._forget(session)

    def _forget(self, session: Session) -> None:
        if self._sessions.get((session.owner, session.conversation_id)) is not session:
            return
        del self._sessions[session.owner, session.conversation_id]
        self._ended.pop(session, None)
        ids = self._ids[session.owner]
        del ids[bisect.bisect_left(ids, session.conversation_id)]
        if not ids:
            del self._ids[session.owner]

    def _note_end(self, session: Session) -> None:
        if self._sessions.get((session.owner, session.conversation_id)) is not session:
            return
        session.ended_at = self._loop.time()
        self._ended[session] = None
        if self._timer is None:
            self._timer = self._loop.call_later(self._retention, self._expire)

    # The core evicts those that ended first, as far as it takes.
    def _forget_evicted(self) -> None:
        while self._ended and (oldest := next(iter(self._ended))).stream.evicted:
            self._forget(oldest)

    # One timer for all: they expire in the order in which they ended.
    def _expire(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._ended:
            oldest = next(iter(self._ended))
            due = oldest.ended_at + self._retention
            if due > now:
                self._timer = self._loop.call_at(due, self._expire)
                return
            self._forget(oldest)
