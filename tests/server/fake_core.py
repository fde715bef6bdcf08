"""A stand-in for the core's Engine, Stream and Waker, driven by hand.

It is for what the real one cannot do on demand: stay silent, fail at a chosen moment, give so many bytes.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import threading
from collections.abc import Callable
from typing import Any

from pyllama.errors import InvalidRequestError


class Waker:
    def __init__(self) -> None:
        self.fd, self._write_fd = os.pipe()
        os.set_blocking(self.fd, False)
        self._lock = threading.Lock()
        self._dirty: set[int] = set()

    def mark(self, key: int) -> None:
        with self._lock:
            if not self._dirty:
                os.write(self._write_fd, b"x")
            self._dirty.add(key)

    def drain(self) -> list[int]:
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 4096)
        with self._lock:
            keys, self._dirty = list(self._dirty), set()
        return keys

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            os.close(self._write_fd)
            self.fd = -1


class Prepared:
    """As the core's: its facts are gone once it was submitted."""

    def __init__(self, body: dict[str, Any], ping_interval: float, dialect: str = "openai") -> None:
        self.dialect = dialect
        self.receipt = b""
        self._facts: dict[str, Any] | None = {
            "stream": bool(body.get("stream", False)) or dialect == "paddler",
            "sse_ping_interval": body.get("sse_ping_interval", ping_interval),
        }
        self.body = body
        self.content_type = "text/event-stream" if self.stream else "application/json"
        if dialect == "paddler":
            self.content_type = "application/x-ndjson"

    def take(self) -> None:
        assert self._facts is not None
        self._facts = None

    @property
    def stream(self) -> bool:
        assert self._facts is not None
        return bool(self._facts["stream"])

    @property
    def sse_ping_interval(self) -> float:
        assert self._facts is not None
        return float(self._facts["sse_ping_interval"])


_numbers = itertools.count()


class Stream:
    """Driven by the test: start(), append(), finish()."""

    def __init__(self, prepared: Prepared, waker: Waker | None, key: int, owner: bytes = b"") -> None:
        self.id = f"chatcmpl-fake-{next(_numbers)}"
        self.owner = owner
        self.priority: int | None = None
        self.queue_position: int | None = None
        self.body = prepared.body
        self.content_type = prepared.content_type
        self.dialect = prepared.dialect
        self.state = "accepted"
        self.error: Exception | None = None
        self.cancelled = threading.Event()
        self.on_cancel: Callable[[], None] = lambda: None
        self._first = 0
        self._data = b""
        self._ends: list[int] = []
        self.kept = False
        self.detached = False
        self.evicted = False
        self._subscribers = {(waker, key)} if waker is not None else set()

    def start(self) -> None:
        self.state = "started"
        self._wake()

    def append(self, data: bytes) -> None:
        self._data += data
        self._ends.append(self.end_offset)
        self._wake()

    def forget_before(self, offset: int) -> None:
        """What a full ring does."""
        self._data = self._data[offset - self._first :]
        self._first = offset

    def finish(self, error: Exception | None = None) -> None:
        self.error = error
        self.state = "finished"
        self._wake()

    def read(self, offset: int, max_bytes: int = 1 << 18) -> tuple[bytes, int, bool, int | None]:
        if offset < self._first:
            return b"", offset, False, self._first
        data = self._data[offset - self._first :][:max_bytes]
        end = offset + len(data)
        return data, end, self.state == "finished" and end == self._first + len(self._data), None

    def read_events(
        self, offset: int, max_bytes: int = 1 << 18
    ) -> tuple[bytes, int, bool, int | None, int, int, bool, list[int]]:
        """As the core: whole events, at least one."""
        end = self.end_offset
        if offset < self._first:
            return b"", self._first, False, self._first, end, 0, True, []
        ends = [each for each in self._ends if each > offset]
        taken = [each for each in ends if each <= offset + max_bytes] or ends[:1]
        stop = taken[-1] if taken else offset
        first = len(self._ends) - len(ends)
        begin = self._ends[first - 1] if first > 0 else 0
        finished = self.state == "finished" and stop >= end
        data = self._data[offset - self._first : stop - self._first]
        return data, stop, finished, None, end, first, begin == offset, taken

    @property
    def end_offset(self) -> int:
        return self._first + len(self._data)

    def offset_after(self, event_id: int) -> int | None:
        return self._ends[event_id] if event_id < len(self._ends) else None

    def keep(self, n_extra: int = 0) -> None:
        self.kept = True

    def detach(self) -> None:
        self.detached = True

    def subscribe(self, waker: Waker, key: int) -> None:
        self._subscribers.add((waker, key))
        if self.state != "accepted" or self._data:
            waker.mark(key)

    def unsubscribe(self, waker: Waker, key: int) -> None:
        self._subscribers.discard((waker, key))

    @property
    def n_subscribers(self) -> int:
        return len(self._subscribers)

    def cancel(self) -> None:
        if not self.cancelled.is_set():
            self.cancelled.set()
            self.on_cancel()

    def _wake(self) -> None:
        for waker, key in list(self._subscribers):
            waker.mark(key)


class Engine:
    """Prepares any JSON object; each submitted stream is put into ``streams`` and given to ``on_submit``."""

    n_slots = 2

    def __init__(self) -> None:
        self.streams: list[Stream] = []
        self.on_submit: Callable[[Stream], None] = lambda stream: None
        self.refuse: Exception | None = None
        self.may_prepare = threading.Event()
        self.may_prepare.set()
        self.preparing = threading.Event()
        self.closed = False
        self.sse_ping_interval = 30.0  # of requests that name none
        self.submitted = threading.Event()

    def prepare_chat(self, body: bytes, dialect: str) -> Prepared:
        self.preparing.set()
        self.may_prepare.wait(30)
        try:
            value = json.loads(body)
        except ValueError as exc:
            raise InvalidRequestError(f"the body is not JSON: {exc}") from exc
        if not isinstance(value, dict):
            raise InvalidRequestError("the body must be a JSON object")
        return Prepared(value, self.sse_ping_interval, dialect)

    def prepare_completion(self, body: bytes, dialect: str) -> Prepared:
        return self.prepare_chat(body, dialect)

    def submit(
        self,
        prepared: Prepared,
        waker: Waker | None = None,
        key: int = 0,
        owner: bytes = b"",
        priority: int | None = None,
    ) -> Stream:
        if self.refuse is not None:
            raise self.refuse
        prepared.take()
        stream = Stream(prepared, waker, key, owner)
        stream.priority = priority
        self.streams.append(stream)
        self.on_submit(stream)
        self.submitted.set()
        return stream

    def metrics(self) -> dict[str, float]:
        return {"prompt_tokens": 12.0, "prompt_seconds": 0.5, "steps": 4.0, "busy_slots": 6.0}

    def histograms(self) -> dict[str, Any]:
        empty = {"bounds": [0.5, 2.0], "counts": [0, 0, 0], "sum": 0.0}
        seen = {"bounds": [0.5, 2.0], "counts": [3, 0, 1], "sum": 9.25}
        names = ("queue_time", "time_to_first_token", "prompt_length")
        return {"token_gap": seen, **dict.fromkeys(names, empty)}

    def slots(self) -> list[dict[str, Any]]:
        return [{"id": 0, "is_processing": True}, {"id": 1, "is_processing": True}]

    def props(self) -> dict[str, Any]:
        return {"total_slots": 2, "modalities": {"vision": False, "audio": False}}

    def model_info(self) -> dict[str, Any]:
        return {"n_vocab": 580, "n_ctx": 512, "created": 1}

    def shutdown(self, message: str) -> None:
        from pyllama.errors import EngineUnavailableError

        self.refuse = EngineUnavailableError(message)
        for stream in self.streams:
            if stream.state != "finished":
                if stream.state == "started" and stream.content_type == "text/event-stream":
                    stream.append(b'data: {"error":{"message":"' + message.encode() + b'"}}\n\n')
                stream.finish(self.refuse)

    def close(self) -> None:
        self.shutdown("closed")
        self.closed = True
