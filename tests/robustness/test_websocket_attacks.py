"""What attackers do to sockets: nothing aborts, nothing piles up, and nobody else notices."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator

import pytest
from live_server import CHAT, ENDLESS, LiveServer, wait_until
from sockets import PADDLER, SOCKET, Socket, closes, frame, handshake, opened
from websockets.exceptions import ConnectionClosed, InvalidStatus

LIMIT = 65536


@pytest.fixture(scope="module")
def running() -> Iterator[LiveServer]:
    flags = ("--parallel", "3", "--ctx-size", "196608", "--api-key", "right,other")
    limits = ("--max-socket-message", str(LIMIT), "--max-socket-requests", "16", "--max-sockets", "8")
    with LiveServer(*flags, *limits, key="right") as server:
        yield server


def test_wrong_keys(server: LiveServer) -> None:
    for key in ("", "wrong", "righ", "rightt"):
        for path in (SOCKET, PADDLER):
            with pytest.raises(InvalidStatus) as refused:
                Socket(server, path, key)
            assert refused.value.response.status_code == 401
            body = json.loads(bytes(refused.value.response.body or b""))
            assert body["error"]["message"] == "Invalid API Key"


def test_too_many_sockets(server: LiveServer) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(Socket(server))
        with pytest.raises(InvalidStatus) as refused:
            Socket(server)
        assert refused.value.response.status_code == 429
        stack.enter_context(Socket(server, key="other"))


@pytest.mark.parametrize("data", ["x" * 10_000_000, b"x" * 10_000_000, " " * (LIMIT + 1)])
def test_messages_that_are_too_long(server: LiveServer, data: str | bytes) -> None:
    with Socket(server) as client:
        with pytest.raises(ConnectionClosed) as closed:
            send_and_wait(client, data)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009


def send_and_wait(client: Socket, data: str | bytes) -> None:
    client.say(data)
    client.next()


def test_a_message_of_just_the_limit(server: LiveServer) -> None:
    with Socket(server) as client:
        client.say("{" + " " * (LIMIT - 2) + "}")
        assert "'type' is required" in client.next()["error"]["message"]


def test_binary_frames_and_no_utf8(server: LiveServer) -> None:
    with Socket(server) as client:
        client.say(b'{"type":"cancel","request_id":"nobody"}')
        assert client.next()["error"]["code"] == 404
        client.say(b"\x00\xff")
        assert client.next()["error"]["code"] == 400
        client.create("r1", max_tokens=2)
        assert client.until_end()[-1]["type"] == "done"


@pytest.mark.parametrize(
    "data",
    [
        frame(b"{}", masked=False),
        frame(b"{}", 0xC1),  # a reserved bit
        frame(b"{}", 0x83),  # a reserved opcode
        frame(b"x" * 126, 0x89),  # a ping that is too long
        frame(b"\xff\xfe"),
        frame(b"{}", 0x80),  # nothing to continue
        frame(b"\x03", 0x88),  # half a close code
        b"\x81\xff" + b"\xff" * 8 + bytes(4),  # a length of 2 ** 64 - 1
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
    ],
)
def test_what_is_no_websocket_is_closed(server: LiveServer, data: bytes) -> None:
    client = opened(server)
    client.sendall(data)
    assert closes(client)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (handshake().replace(b"13\r\n", b"12\r\n"), b"400"),
        (handshake().replace(b"sec-websocket-key", b"x"), b"400"),
        (handshake("/nowhere"), b"404"),
        (handshake(key=b"wrong"), b"401"),
        (handshake(CHAT), b"404"),
        (handshake(more=b"content-length: 5\r\n") + b"hello", b"400"),
    ],
)
def test_handshakes_that_fail(server: LiveServer, data: bytes, status: bytes) -> None:
    client = server.connect(data)
    assert client.recv(12).startswith(b"HTTP/1.1 " + status)
    client.shutdown(socket.SHUT_WR)
    assert closes(client)


def test_half_open_handshakes_and_frames_before_the_answer(server: LiveServer) -> None:
    for length in (1, 20, 100, len(handshake()) - 1):
        server.connect(handshake()[:length])
    for _ in range(20):
        early = server.connect(handshake() + frame(json.dumps({"type": "x"}).encode()) * 50)
        early.recv(12)
        early.close()
    for _ in range(20):
        server.connect(handshake()).close()
    server.close_sockets()


def test_a_message_that_never_ends_is_not_kept(server: LiveServer) -> None:
    client = opened(server)
    before = server.resident_bytes()
    client.sendall(frame(b"x" * 1000, 0x01))
    # It goes on although it was told to stop.
    with contextlib.suppress(OSError):
        for _ in range(400):
            client.sendall(frame(b"x" * 100_000, 0x00))
    assert closes(client)
    assert server.resident_bytes() - before < 20_000_000


def test_compression_is_not_negotiated(server: LiveServer) -> None:
    client = opened(server, b"sec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n")
    client.sendall(frame(b"", 0x88))
    assert closes(client)


def test_thousands_of_requests_on_one_socket(server: LiveServer) -> None:
    with Socket(server) as client:
        outcomes: dict[str, int] = {"done": 0, "error": 0}
        for batch in range(20):
            for number in range(100):
                client.create(f"{batch}-{number}", max_tokens=1)
            n_ended = 0
            while n_ended < 100:
                message = client.next()
                if message["type"] in outcomes:
                    outcomes[message["type"]] += 1
                    n_ended += 1
                    assert message["type"] == "done" or message["error"]["code"] == 429
        assert sum(outcomes.values()) == 2000
        assert outcomes["done"] >= 16


def test_a_flood_from_one_who_never_reads(server: LiveServer) -> None:
    """It is held back by its own connection: nothing piles up."""
    before = server.resident_bytes()
    client = opened(server, receive_buffer=4096)
    client.settimeout(1)
    messages = (
        frame(b"{"),
        frame(json.dumps({"type": "control", "request_id": "x", "action": "stop"}).encode()),
        frame(json.dumps({"type": "chat.completion.create", "request_id": "x", "body": {}}).encode()),
    )
    with contextlib.suppress(TimeoutError):
        for number in range(2_000_000):
            client.sendall(messages[number % 3])
    assert number < 1_999_999
    assert server.resident_bytes() - before < 30_000_000
    server.answers_a_question()


def test_random_frames(server: LiveServer) -> None:
    for _ in range(30):
        client = opened(server)
        with contextlib.suppress(OSError):
            client.sendall(os.urandom(2000))
            client.shutdown(socket.SHUT_WR)
            closes(client)


def test_one_who_takes_nothing_harms_nobody() -> None:
    flags = ("--write-timeout", "0.5", "--parallel", "2", "--ctx-size", "65536")
    with LiveServer(*flags) as server:
        cancelled = server.metric("pyllama:requests_cancelled_total")
        slow = opened(server, receive_buffer=4096)
        body = {**ENDLESS, "logprobs": True, "top_logprobs": 20}
        message = {"type": "chat.completion.create", "request_id": "r1", "body": body}
        slow.sendall(frame(json.dumps(message).encode()))
        with Socket(server) as client:
            for _ in range(5):
                client.create(max_tokens=20)
                assert client.until_end()[-1]["type"] == "done"
        wait_until(
            "the server has dropped it",
            lambda: server.metric("pyllama:requests_cancelled_total") == cancelled + 1,
        )
        server.check_settled()


def test_pings_find_out_who_is_gone() -> None:
    with LiveServer("--sse-ping-interval", "1", "--parallel", "1", "--ctx-size", "4096") as server:
        dead = opened(server)  # it reads, and answers nothing
        with Socket(server) as alive:  # answers pings by itself
            assert closes(dead)
            alive.create(max_tokens=2)
            assert alive.until_end()[-1]["type"] == "done"
            assert alive.connection.ping().wait(60)
        server.check_settled()
