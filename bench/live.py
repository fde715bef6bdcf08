"""A streamed chat completion that is watched while it runs: each event with the time of its arrival."""

from __future__ import annotations

import http.client
import json
import threading
import time
from typing import Any, Self

from bench.sample import LoadError
from bench.servers import HOST

PATH = "/v1/chat/completions"
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
        self._changed = threading.Condition()
        self._connection = http.client.HTTPConnection(HOST, port, timeout=_LIMIT_S)
        self._body = json.dumps({**body, "stream": True})
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        sock = self._connection.sock
        if sock is not None:
            sock.close()
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
        try:
            self._connection.request("POST", PATH, self._body, {"Content-Type": "application/json"})
            response = self._connection.getresponse()
            if response.status != 200:
                raise LoadError(f"status {response.status}: {response.read(500)!r}")
            while line := response.readline():
                now = time.perf_counter()
                if line.startswith(b"data: {"):
                    self._take(json.loads(line[6:]), now)
        except (OSError, ValueError, AttributeError, http.client.HTTPException, LoadError) as error:
            with self._changed:
                self.failure = str(error) or type(error).__name__
                self._changed.notify_all()
        else:
            with self._changed:
                self.finished = True
                self._changed.notify_all()

    def _take(self, event: dict[str, Any], now: float) -> None:
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


def post(port: int, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON answer of one POST.

    Raises:
        LoadError: The status was not 200.
    """
    connection = http.client.HTTPConnection(HOST, port, timeout=_LIMIT_S)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        data = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise LoadError(f"status {response.status}: {data[:500]!r}")
    answer: dict[str, Any] = json.loads(data)
    return answer
