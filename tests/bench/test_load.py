from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from bench.load import Load, run_load
from bench.sample import LoadError
from bench.words import WORDS, prompt


class ChatServer(socketserver.ThreadingTCPServer):
    """Answers each request with `max_tokens` words, in HTTP chunks that do not match the events."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, cut_after: int | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[dict[str, Any]] = []
        self.cut_after = cut_after
        self.port = int(self.server_address[1])


class _Handler(socketserver.StreamRequestHandler):
    server: ChatServer

    def handle(self) -> None:
        length = 0
        while (line := self.rfile.readline()) not in (b"\r\n", b""):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        body = json.loads(self.rfile.read(length))
        self.server.bodies.append(body)
        count = body["max_tokens"]
        chunks: list[dict[str, Any]] = [{"choices": [{"delta": {"role": "assistant"}}]}]
        chunks += [{"choices": [{"delta": {"content": f" w{n}"}}]} for n in range(count)]
        chunks.append({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": count}})
        text = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks).encode() + b"data: [DONE]\n\n"
        text = text[: self.server.cut_after]
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\n"
        self.wfile.write(head)
        for start in range(0, len(text), 61):
            part = text[start : start + 61]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        if self.server.cut_after is None:
            self.wfile.write(b"0\r\n\r\n")


@pytest.fixture
def serve() -> Iterator[Any]:
    servers: list[tuple[ChatServer, threading.Thread]] = []

    def start(**options: Any) -> ChatServer:
        server = ChatServer(**options)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        servers.append((server, thread))
        return server

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


def test_every_user_gets_every_answer(serve: Any) -> None:
    server = serve()
    samples = run_load("127.0.0.1", server.port, Load(users=5, requests=3, max_tokens=40, prompt_words=9))
    assert len(samples) == 15
    assert all(sample.completion_tokens == 40 and len(sample.gaps) == 39 for sample in samples)
    prompts = [body["messages"][0]["content"] for body in server.bodies]
    assert len(set(prompts)) == 15
    assert all(
        body["ignore_eos"] and body["stream_options"] == {"include_usage": True} for body in server.bodies
    )


def test_a_server_that_hangs_up_is_an_error(serve: Any) -> None:
    server = serve(cut_after=300)
    with pytest.raises(LoadError, match="closed the connection before the answer's end"):
        run_load("127.0.0.1", server.port, Load(users=2))


def test_a_load_has_a_time_limit(serve: Any) -> None:
    server = serve()
    with pytest.raises(LoadError, match="did not end in time"):
        run_load("127.0.0.1", server.port, Load(), timeout_s=-1.0)


def test_prompts_are_seeded_and_share_what_they_should() -> None:
    one, other = (prompt(50, 20, seed=1, user=user, turn=0).split() for user in (0, 1))
    assert one[:20] == other[:20]
    assert one[20:] != other[20:]
    assert len(one) == len(other) == 50
    assert one == prompt(50, 20, seed=1, user=0, turn=0).split()
    assert one != prompt(50, 20, seed=2, user=0, turn=0).split()
    assert set(one) <= set(WORDS)
    assert len(prompt(10, 30, seed=1, user=0, turn=0).split()) == 10
