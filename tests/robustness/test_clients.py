"""Clients that are slow, silent, rude or gone, at every stage of a request."""

from __future__ import annotations

import json
import socket

import pytest
from live_server import (
    CHAT,
    ENDLESS,
    QUESTION,
    LiveServer,
    PipelinedAnswers,
    check_error,
    http_post,
    read_response,
    wait_until,
)

SHORT = {"messages": QUESTION, "max_tokens": 2}


def test_slow_headers_and_bodies_hold_nobody_up(server: LiveServer) -> None:
    whole = http_post(SHORT)
    clients = [server.connect(whole[:n]) for n in (0, 1, 10, 40, whole.index(b"\r\n\r\n") + 3)] * 1
    clients += [server.connect(whole[:n]) for n in (whole.index(b"\r\n\r\n") + 4, len(whole) - 1)]
    for at in range(3):  # byte by byte, and others are served in between
        server.answers_a_question()
        clients[1].sendall(whole[1 + at : 2 + at])
    clients[-1].sendall(whole[-1:])
    status, body = read_response(clients[-1])
    assert status == 200, body
    assert server.n_busy() == 0


def test_a_hundred_idle_connections(server: LiveServer) -> None:
    for _ in range(100):
        server.connect()
    server.answers_a_question()


def test_more_connections_than_descriptors() -> None:
    with LiveServer("--parallel", "1", max_descriptors=160) as server:
        clients = [server.connect() for _ in range(300)]
        refused = [client for client in clients if not stays_open(client)]
        assert len(clients) - len(refused) > 50
        # It says so, and not once for each. Many that come at once may use up the descriptors first.
        (line,) = server.said().splitlines()
        assert "new ones are refused" in line or "a new connection was not accepted" in line
        server.close_sockets()
        wait_until("there is room", lambda: stays_open(server.connect()))
        server.check_settled()


def stays_open(client: socket.socket) -> bool:
    """Ask over an idle connection; return whether it is answered and not closed."""
    try:
        client.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        return client.recv(1) == b"H"
    except OSError:
        return False


@pytest.mark.parametrize("n_bytes", [0, 1, 20, "head", "half", "most"])
def test_gone_before_the_request_is_whole(server: LiveServer, n_bytes: int | str) -> None:
    whole = http_post({**SHORT, "padding": "x" * 200_000})
    head = whole.index(b"\r\n\r\n") + 4
    n = {"head": head, "half": len(whole) // 2, "most": len(whole) - 1}.get(str(n_bytes), n_bytes)
    assert isinstance(n, int)
    for _ in range(5):
        server.connect(whole[:n]).close()


def test_gone_while_queued(server: LiveServer) -> None:
    for _ in range(2):
        server.stream()
    wait_until("both slots are busy", lambda: server.n_busy() == 2)
    cancelled = server.metric("pyllama:requests_cancelled_total")
    for stream in (True, False):
        waiting = server.connect(http_post({**ENDLESS, "stream": stream}))
        wait_until("it waits", lambda: server.metric("llamacpp:requests_deferred") == 1)
        waiting.close()
        wait_until("it is gone", lambda: server.metric("llamacpp:requests_deferred") == 0)
    assert server.metric("pyllama:requests_cancelled_total") == cancelled + 2
    assert server.n_busy() == 2


def test_gone_in_prefill(server: LiveServer) -> None:
    text = " ".join(str(i) for i in range(700))
    for stream in (True, False):
        for n in range(3):
            messages = [{"role": "user", "content": f"{n} {stream} {text}"}]
            client = server.connect(http_post({**ENDLESS, "messages": messages, "stream": stream}))
            wait_until("it has a slot", lambda: server.n_busy() > 0)
            client.close()
            wait_until("its slot is free", lambda: server.n_busy() == 0)


@pytest.mark.parametrize("stream", [True, False])
def test_gone_while_decoding(server: LiveServer, stream: bool) -> None:
    cancelled = server.metric("pyllama:requests_cancelled_total")
    client = server.connect(http_post({**ENDLESS, "stream": stream}))
    if stream:
        assert client.recv(1) == b"H"
    wait_until(
        "it decodes",
        lambda: any(
            "next_token" in slot and slot["next_token"][0]["n_decoded"] > 0 for slot in server.get("/slots")
        ),
    )
    client.close()
    wait_until("it is cancelled", lambda: server.metric("pyllama:requests_cancelled_total") == cancelled + 1)


def test_reset_while_streaming(server: LiveServer) -> None:
    import socket
    import struct

    client = server.stream()
    assert client.recv(1) == b"H"
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def test_many_vanish_at_once(server: LiveServer) -> None:
    for _ in range(40):
        server.stream()
    server.close_sockets()


def test_pipelined_requests_are_answered_in_order(server: LiveServer) -> None:
    health = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
    answers = PipelinedAnswers(server.connect(health + http_post(SHORT) + http_post(b"{") + health))
    for expected in (200, 200, 400, 200):
        status, body = read_response(answers)
        assert status == expected, body
    assert json.loads(body) == {"status": "ok"}


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n",
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: a\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET /health HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 200_000 + b"\r\n\r\n",
        b"GET /" + b"y" * 200_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
    ],
    ids=lambda data: str(data[:40]),
)
def test_no_http(server: LiveServer, data: bytes) -> None:
    """Answered with a 4xx or closed, and never with anything else."""
    try:
        client = server.connect(data)
        client.shutdown(1)
        answer = client.recv(100)
    except OSError:  # it is gone already
        answer = b""
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer


def test_head_options_and_other_methods(server: LiveServer) -> None:
    assert server.request("HEAD", "/health") == (200, b"")
    assert server.request("HEAD", "/v1/models") == (200, b"")
    assert server.request("OPTIONS", CHAT) == (200, b"")
    assert server.request("OPTIONS", "/nowhere") == (200, b"")
    for method, path, code in (
        ("GET", CHAT, 404),
        ("PUT", CHAT, 404),
        ("HEAD", CHAT, 404),
        ("POST", "/health", 404),
        ("GET", "/nowhere", 404),
        ("POST", "/nowhere", 404),
        ("BREW", "/nowhere", 404),
    ):
        status, body = server.request(method, path, b"{}" if method == "POST" else None)
        assert status == code, (method, path, body)
        if method != "HEAD":
            check_error(status, json.loads(body), code=code)


def test_wrong_keys_and_clients_that_read_nothing() -> None:
    flags = ("--write-timeout", "0.5", "--parallel", "1", "--ctx-size", "65536", "--api-key", "right")
    with LiveServer(*flags, key="right") as server:
        key = server.key
        for wrong in (None, "", "wrong", "righ", "rightt", "RIGHT", "r\u00efght"):
            server.key = wrong
            status, answer = server.chat()
            check_error(status, answer, code=401)
            assert answer["error"]["type"] == "authentication_error"
        server.key = key
        cancelled = server.metric("pyllama:requests_cancelled_total")
        # Wide chunks fill the socket's buffers soon; then the server must give up on us.
        body = {**ENDLESS, "logprobs": True, "top_logprobs": 20}
        server.connect(http_post(body, headers=b"authorization: Bearer right\r\n"), receive_buffer=4096)
        wait_until(
            "the server has dropped it",
            lambda: server.metric("pyllama:requests_cancelled_total") == cancelled + 1,
        )
        server.check_settled()
