"""A server that answers each connection by a script: an answer, a refusal, or something worse."""

from __future__ import annotations

import json
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable
from typing import Any

from pyllama.loadtest import Target

STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\n"


def events(n_tokens: int, usage: bool = True, done: bool = True) -> bytes:
    """Return a whole answer's event stream."""
    chunks: list[dict[str, Any]] = [{"choices": [{"delta": {"role": "assistant"}}]}]
    chunks += [{"choices": [{"delta": {"content": f" w{n}"}}]} for n in range(n_tokens)]
    if usage:
        chunks.append({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": n_tokens}})
    text = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)
    return (text + ("data: [DONE]\n\n" if done else "")).encode()


def chunked(text: bytes, size: int = 61) -> list[bytes]:
    """Cut a body into HTTP chunks that do not match its events."""
    parts = [text[start : start + size] for start in range(0, len(text), size)]
    return [b"%x\r\n%s\r\n" % (len(part), part) for part in (*parts, b"")]


def refusal(status: str, message: str, *headers: str) -> bytes:
    """Return a whole refusal in the error envelope."""
    body = json.dumps({"error": {"message": message, "code": int(status.split()[0])}}).encode()
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


class Exchange:
    """The server's side of one connection."""

    def __init__(self, connection: socket.socket, body: dict[str, Any], released: threading.Event) -> None:
        self.connection = connection
        self.body = body
        self._released = released

    def send(self, *parts: bytes) -> None:
        for part in parts:
            self.connection.sendall(part)

    def answer(self) -> None:
        """Answer with as many words as are asked for."""
        self.send(STREAM, *chunked(events(self.body["max_tokens"])))

    def hold(self) -> None:
        """Send nothing more before the test is over."""
        self._released.wait()


Script = Callable[[Exchange], None] | bytes


class ScriptedServer(socketserver.ThreadingTCPServer):
    """Does what the script says with the first connections, and answers the rest.

    Attributes:
        bodies: Of the requests, in the order in which they came.
        heads: Their heads.
    """

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(
        self,
        *script: Script,
        family: int = socket.AF_INET,
        tls: ssl.SSLContext | None = None,
        greeting: bytes = b"",
        keep_open: bool = False,
    ) -> None:
        self.address_family = family
        host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        super().__init__((host, 0), _Handler)
        self.script = list(script)
        self.tls = tls
        self.greeting = greeting  # sent instead of everything else
        self.keep_open = keep_open  # behind the greeting
        self.bodies: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self.metrics = b""  # what a GET of anything is answered with
        self.lock = threading.Lock()
        self.released = threading.Event()
        port = int(self.server_address[1])
        self.url = f"http{'s' if tls else ''}://{f'[{host}]' if ':' in host else host}:{port}"
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def target(self) -> Target:
        return Target.parse(self.url, insecure=True)

    def stop(self) -> None:
        self.released.set()
        self.shutdown()
        self.server_close()
        self._thread.join()


class _Handler(socketserver.BaseRequestHandler):
    server: ScriptedServer

    def handle(self) -> None:
        connection: socket.socket = self.request
        try:
            if self.server.tls is not None:
                connection = self.server.tls.wrap_socket(connection, server_side=True)
            if self.server.greeting:
                connection.sendall(self.server.greeting)
                if self.server.keep_open:
                    self.server.released.wait()
            else:
                self._exchange(connection)
        except OSError:
            pass  # the client has gone, which is what some tests are about
        finally:
            connection.close()

    def _exchange(self, connection: socket.socket) -> None:
        reader = connection.makefile("rb")
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = reader.readline()
            if not line:
                return  # it only looked whether somebody is here
            head += line
        if head.startswith(b"GET "):
            text = self.server.metrics
            found = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)
            connection.sendall(found if text else refusal("404 Not Found", "no metrics"))
            return
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:"))
        body = json.loads(reader.read(length))
        with self.server.lock:
            self.server.heads.append(head.decode())
            self.server.bodies.append(body)
            script = self.server.script.pop(0) if self.server.script else Exchange.answer
        exchange = Exchange(connection, body, self.server.released)
        if isinstance(script, bytes):
            exchange.send(script)
        else:
            script(exchange)
