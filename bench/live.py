"""A streamed chat completion that is watched while it runs: each event with the time of its arrival."""

from __future__ import annotations

import json
import threading
from typing import Any, Self

from bench.client import PATH, LoadError, opened, request
from pyllama.loadtest import Exchange
from pyllama.loadtest.wire import EventReader

_LIMIT_S = 120.0


class LiveStream:
    """One request on a thread of its own. Times are of ``time.perf_counter``, in seconds.

    Leaving the ``with`` block closes the connection, which ends the request.
    """

    def __init__(self, port: int, body: dict[str, Any]) -> None:
        self.id = ""
        self.reasoning: list[float] = []
        self.content: list[float] = []
        self.failure: str | None = None
        self.finished = False
        self._port = port
        self._request = request(port, PATH, {**body, "stream": True})
        self._changed = threading.Condition()
        self._left = threading.Event()
        self._events = EventReader()
        self._n_taken = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._left.set()
        self._thread.join()

    def wait_for(self, reasoning: int = 0, content: int = 0, finished: bool = False) -> None:
        """Return when that many events of each kind have come.

        Raises:
            LoadError: The request failed, or ended before that.
        """
        with self._changed:
            done = self._changed.wait_for(
                lambda: (
                    self.failure
                    or self.finished
                    or (len(self.reasoning) >= reasoning and len(self.content) >= content and not finished)
                ),
                _LIMIT_S,
            )
        if self.failure or not done:
            raise LoadError(self.failure or "no answer in time")
        if len(self.reasoning) < reasoning or len(self.content) < content:
            raise LoadError("the answer ended early")

    def _run(self) -> None:
        failure: str | None = None
        try:
            with opened(self._port) as crowd:
                exchange = crowd.open(self._request)
                crowd.read_until(lambda: self._left.is_set() or self._take(exchange))
            status = exchange.response.status
            if exchange.failure is not None:
                failure = exchange.failure.detail
            elif status not in (0, 200):
                failure = f"status {status}: {exchange.response.body[:500]!r}"
        except (OSError, ValueError, AttributeError, LoadError) as error:
            failure = str(error) or type(error).__name__
        with self._changed:
            self.failure = failure
            self.finished = failure is None
            self._changed.notify_all()

    def _take(self, exchange: Exchange) -> bool:
        """Read what is new; return whether that was all."""
        if exchange.response.status == 200:
            for time_ns, data in exchange.response.pieces[self._n_taken :]:
                for event in self._events.feed(time_ns, data):
                    if event.data != b"[DONE]":
                        self._take_event(json.loads(event.data), event.time_ns / 1e9)
            self._n_taken = len(exchange.response.pieces)
        return exchange.over

    def _take_event(self, event: dict[str, Any], now: float) -> None:
        if "error" in event:
            raise LoadError(str(event["error"]))
        delta = event["choices"][0]["delta"] if event.get("choices") else {}
        with self._changed:
            self.id = event.get("id", self.id)
            if delta.get("reasoning_content"):
                self.reasoning.append(now)
            if delta.get("content"):
                self.content.append(now)
            self._changed.notify_all()
