"""A pyllama server process with the demo model, and what the tests ask of it from outside."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

CHAT = "/v1/chat/completions"
QUESTION = [{"role": "user", "content": "What is 17 + 25?"}]
# Fills its slot's context: seconds of decoding, so that it is still there when a test looks.
ENDLESS = {"messages": QUESTION, "stream": True, "ignore_eos": True, "max_tokens": -1, "temperature": 0}


def wait_until(what: str, condition: Callable[[], bool], seconds: float = 60) -> None:
    """Poll until ``condition()`` holds; the limit is there for a server that hangs."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s until {what}"
        time.sleep(0.01)


class LiveServer:
    """``with LiveServer(flags) as server``: a server on a free port of its own, ended in order."""

    def __init__(
        self,
        *flags: str,
        key: str | None = None,
        ordinary: str = QUESTION[0]["content"],
        max_descriptors: int | None = None,
    ) -> None:
        self.key = key
        self.ordinary = [{"role": "user", "content": ordinary}]
        command = [sys.executable, "-P", "-m", "pyllama.cli", "serve", "--port", "0", "--threads", "1"]
        if max_descriptors is not None:
            command = ["sh", "-c", f'ulimit -n {max_descriptors} && exec "$@"', "sh", *command]
        # A pipe that nobody reads would fill.
        self.errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self.process = subprocess.Popen(
            [*command, "--metrics", *flags], stdout=subprocess.PIPE, stderr=self.errors, text=True
        )
        self.sockets: list[socket.socket] = []
        assert self.process.stdout is not None
        lines: list[str] = []
        for line in self.process.stdout:
            lines.append(line)
            if line.startswith("Try:"):
                break
        found = re.search(r"ready on http://127\.0\.0\.1:(\d+)", "".join(lines))
        assert found is not None, (lines, self.said())
        self.port = int(found[1])
        self.answers_a_question()
        self.n_descriptors = self.descriptors()

    def __enter__(self) -> LiveServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close_sockets()
        if self.process.poll() is None:
            self.process.terminate()
        self.process.communicate(timeout=60)
        said = self.said()
        self.errors.close()
        assert self.process.returncode == 0, said
        assert "Traceback" not in said, said

    def said(self) -> str:
        """Return what the process has written to stderr."""
        self.errors.seek(0)
        return self.errors.read()

    # --- talking to it ---

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, Any] | None = None
    ) -> tuple[int, bytes]:
        """Ask on a connection of its own; return the status and the body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            key = {} if self.key is None else {"authorization": f"Bearer {self.key}".encode()}
            connection.request(method, path, body, {**key, **(headers or {})})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        """Return the JSON below a path."""
        status, body = self.request("GET", path)
        assert status == 200, body
        return json.loads(body)

    def chat(self, **fields: Any) -> tuple[int, Any]:
        """Post a chat request; return the status and the JSON of the answer."""
        return self.post(json.dumps({"messages": QUESTION, "max_tokens": 4, **fields}).encode())

    def post(self, body: bytes, path: str = CHAT) -> tuple[int, Any]:
        """Post a body as it is."""
        status, answer = self.request("POST", path, body, {"content-type": "application/json"})
        return status, json.loads(answer)

    def ask(self, path: str, body: Any) -> tuple[int, Any]:
        """Post a value as JSON; return the status and the JSON of the answer."""
        return self.post(json.dumps(body).encode(), path)

    def connect(self, data: bytes = b"", receive_buffer: int | None = None) -> socket.socket:
        """Open a raw connection and send ``data``."""
        client = socket.socket()
        if receive_buffer is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.settimeout(60)
        client.connect(("127.0.0.1", self.port))
        self.sockets.append(client)
        client.sendall(data)
        return client

    def stream(self, **fields: Any) -> socket.socket:
        """Start an endless stream on a raw connection."""
        return self.connect(http_post({**ENDLESS, **fields}))

    def close_sockets(self) -> None:
        """Close what connect() opened."""
        for client in self.sockets:
            client.close()
        self.sockets.clear()

    # --- looking at it ---

    def metric(self, name: str) -> float:
        """Return one value of /metrics."""
        _, page = self.request("GET", "/metrics")
        found = re.search(rf"^{re.escape(name)} (\S+)$", page.decode(), re.MULTILINE)
        assert found is not None, page
        return float(found[1])

    def n_busy(self) -> int:
        """Return how many slots are busy."""
        return sum(slot["is_processing"] for slot in self.get("/slots"))

    def descriptors(self) -> int:
        """Return how many files, sockets and pipes the process has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def resident_bytes(self) -> int:
        """Return the process's resident memory."""
        with open(f"/proc/{self.process.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")

    # --- what must hold after any abuse ---

    def answers_a_question(self) -> None:
        """Check that an ordinary request is served."""
        status, answer = self.chat(messages=self.ordinary, temperature=0, ignore_eos=True)
        assert status == 200, answer
        assert answer["usage"]["completion_tokens"] == 4

    def check_settled(self) -> None:
        """Check that the next request is served and that nothing is left: slots, queue, requests, files."""
        assert self.process.poll() is None, self.said()
        self.answers_a_question()
        wait_until("no slot is busy", lambda: self.n_busy() == 0)
        wait_until("no request waits", lambda: self.metric("llamacpp:requests_deferred") == 0)
        wait_until("every request has ended", self.all_ended)
        wait_until("the connections are closed", lambda: self.descriptors() <= self.n_descriptors)

    def all_ended(self) -> bool:
        ended = ("finished", "cancelled", "failed")
        n_ended = sum(self.metric(f"pyllama:requests_{how}_total") for how in ended)
        return n_ended == self.metric("pyllama:requests_total")


def http_post(body: Any, *, path: str = CHAT, headers: bytes = b"") -> bytes:
    """Return the bytes of a POST."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(data)}\r\n".encode()
    return head + headers + b"\r\n" + data


def read_response(client: socket.socket | PipelinedAnswers) -> tuple[int, bytes]:
    """Read one response with a content length from a raw connection; return the status and the body."""
    response = http.client.HTTPResponse(client)  # type: ignore[arg-type]
    response.begin()
    return response.status, response.read()


class PipelinedAnswers:
    """A connection with several answers on it: one buffer for all, which no response closes."""

    def __init__(self, client: socket.socket) -> None:
        self._file = client.makefile("rb")

    def makefile(self, _mode: str) -> Any:
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


def check_error(status: int, answer: Any, *, code: int = 400, param: str | None = None) -> str:
    """Check OpenAI's error form; return the message."""
    assert status == code, answer
    assert set(answer) == {"error"}
    error = answer["error"]
    assert error["code"] == code
    assert isinstance(error["type"], str)
    assert error["message"]
    assert len(error["message"]) < 1000
    if param is not None:
        assert error.get("param") == param, error
        assert param in error["message"], error
    return str(error["message"])
