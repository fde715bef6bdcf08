"""Clients of a server's WebSockets: one that behaves, and what it takes to misbehave."""

from __future__ import annotations

import json
import socket
from typing import Any

from live_server import QUESTION, LiveServer
from websockets.sync.client import ClientConnection, connect

SOCKET = "/v1/chat/completions/socket"
PADDLER = "/api/v1/inference_socket"


class Socket:
    """A client of a socket, with the messages of each request apart."""

    def __init__(self, server: LiveServer, path: str = SOCKET, key: str = "right") -> None:
        headers = {"authorization": f"Bearer {key}"}
        url = f"ws://127.0.0.1:{server.port}{path}"
        self._open = connect(url, additional_headers=headers, max_size=None)
        self.connection: ClientConnection = self._open.__enter__()

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.__exit__(None, None, None)

    def say(self, message: Any) -> None:
        self.connection.send(message if isinstance(message, (str, bytes)) else json.dumps(message))

    def create(self, request_id: str = "r1", **fields: Any) -> None:
        own = {name: fields.pop(name) for name in ("conversation_id",) if name in fields}
        body = {"messages": QUESTION, "temperature": 0, **fields}
        self.say({"type": "chat.completion.create", "request_id": request_id, "body": body, **own})

    def next(self) -> Any:
        return json.loads(self.connection.recv(timeout=60))

    def until_end(self, request_id: str = "r1") -> list[Any]:
        """Return the messages up to the end of a request; those of others are dropped."""
        messages: list[Any] = []
        while not messages or messages[-1]["type"] not in ("done", "error"):
            message = self.next()
            if message["request_id"] == request_id and message["type"] != "control.result":
                messages.append(message)
        return messages

    def drop(self) -> None:
        """Vanish without a word."""
        self.connection.socket.shutdown(socket.SHUT_RDWR)
        self.connection.socket.close()


def handshake(path: str = SOCKET, key: bytes = b"right", more: bytes = b"") -> bytes:
    return (
        b"GET %b HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        b"authorization: Bearer %b\r\n%b\r\n"
    ) % (path.encode(), key, more)


def opened(server: LiveServer, more: bytes = b"", receive_buffer: int | None = None) -> socket.socket:
    """Open a socket by hand."""
    client = server.connect(handshake(more=more), receive_buffer)
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += client.recv(1)
    assert answer.startswith(b"HTTP/1.1 101")
    assert b"extensions" not in answer.lower()
    return client


def frame(payload: bytes, first: int = 0x81, *, masked: bool = True) -> bytes:
    """Return a frame of a client, whose mask is zeros."""
    mask = 0x80 if masked else 0
    if len(payload) < 126:
        head = bytes((first, mask | len(payload)))
    elif len(payload) < 1 << 16:
        head = bytes((first, mask | 126)) + len(payload).to_bytes(2, "big")
    else:
        head = bytes((first, mask | 127)) + len(payload).to_bytes(8, "big")
    return head + (bytes(4) if masked else b"") + payload


def closes(client: socket.socket) -> bool:
    """Whether the server closes the connection; what it says before is dropped."""
    try:
        while client.recv(65536):
            pass
    except ConnectionError:
        pass
    return True
