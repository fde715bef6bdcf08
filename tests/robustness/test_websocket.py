"""Sockets against a real server: what honest clients get, and what attackers do to it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from live_server import CHAT, ENDLESS, QUESTION, LiveServer, wait_until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

SOCKET = "/v1/chat/completions/socket"
PADDLER = "/api/v1/inference_socket"
LIMIT = 65536


@pytest.fixture(scope="module")
def running() -> Iterator[LiveServer]:
    flags = ("--parallel", "3", "--ctx-size", "196608", "--api-key", "right,other")
    limits = ("--max-socket-message", str(LIMIT), "--max-socket-requests", "16", "--max-sockets", "8")
    with LiveServer(*flags, *limits, key="right") as server:
        yield server


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


def text_of(messages: list[Any]) -> str:
    deltas = [
        choice["delta"]
        for message in messages
        if message["type"] == "chat.completion.chunk"
        for choice in message["data"]["choices"]
    ]
    return "".join((delta.get("reasoning_content") or "") + (delta.get("content") or "") for delta in deltas)


def over_http(server: LiveServer, **fields: Any) -> str:
    body = {"messages": QUESTION, "temperature": 0, **fields}
    status, answer = server.post(json.dumps(body).encode(), CHAT)
    assert status == 200
    message = answer["choices"][0]["message"]
    return str((message.get("reasoning_content") or "") + (message.get("content") or ""))


# --- honest clients ---


def test_many_requests_at_once_give_what_http_gives(server: LiveServer) -> None:
    questions = [[{"role": "user", "content": f"What is {n} + 25?"}] for n in range(12, 20)]
    expected = [over_http(server, messages=question) for question in questions]
    with Socket(server) as client:
        for number, question in enumerate(questions):
            client.create(str(number), messages=question)
        texts: dict[str, list[Any]] = {str(number): [] for number in range(8)}
        n_done = 0
        while n_done < 8:
            message = client.next()
            texts[message["request_id"]].append(message)
            n_done += message["type"] == "done"
        for number, text in enumerate(expected):
            messages = texts[str(number)]
            assert text_of(messages) == text
            assert [message["event_id"] for message in messages] == list(range(len(messages)))


def test_paddlers_answer_is_the_same(server: LiveServer) -> None:
    params = {
        "add_generation_prompt": True,
        "enable_thinking": True,
        "max_tokens": 400,
        "conversation_history": QUESTION,
        "temperature": 0,
    }
    expected = over_http(server)
    with Socket(server, PADDLER) as client:
        client.say({"Request": {"id": "r1", "request": {"ContinueFromConversationHistory": params}}})
        text, usage = read_paddler(client)
        assert text == expected
        assert usage["content_tokens"] + usage["reasoning_tokens"] > 0
        raw = {"max_tokens": 5, "raw_prompt": "The sum", "temperature": 0, "seed": 1, "unknown": []}
        client.say({"Request": {"id": "r2", "request": {"ContinueFromRawPrompt": raw}}})
        text, usage = read_paddler(client)
        status, answer = server.ask("/completion", {"prompt": "The sum", "n_predict": 5, "temperature": 0})
        assert (status, text) == (200, answer["content"])
        assert usage["content_tokens"] == 5


def test_paddlers_refusals(server: LiveServer) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"grammar": {"type": "gbnf", "grammar": "root ::= (", "root": "root"}}, "GrammarSyntaxError"),
        ({"grammar": {"type": "json_schema", "schema": '{"type":"nonsense"}'}}, "GrammarSyntaxError"),
        (
            {"conversation_history": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "MultimodalNotSupported",
        ),
    ]
    with Socket(server, PADDLER) as client:
        for fields, kind in cases:
            params = {"conversation_history": QUESTION, "max_tokens": 4, **fields}
            client.say({"Request": {"id": "r1", "request": {"ContinueFromConversationHistory": params}}})
            answer = client.next()
            assert list(answer["Response"]["response"]["GeneratedToken"]) == [kind], answer
        long = {"raw_prompt": "word " * 12_000, "max_tokens": -5}
        client.say({"Request": {"id": "r1", "request": {"ContinueFromRawPrompt": long}}})
        assert client.next()["Error"]["error"]["code"] == 400


def read_paddler(client: Socket) -> tuple[str, Any]:
    text = ""
    while True:
        token = client.next()["Response"]["response"]["GeneratedToken"]
        if "Done" in token:
            return text, token["Done"]["usage"]
        ((kind, piece),) = token.items()
        assert kind in ("ContentToken", "ReasoningToken")
        text += piece


def test_controls_and_cancel(server: LiveServer) -> None:
    with Socket(server) as client:
        client.create("r1", **ENDLESS, reasoning_control=True)
        client.create("r2", **ENDLESS)
        first = client.next()
        assert first["type"] == "chat.completion.chunk"
        for action in ("pause", "resume", "stop"):
            client.say({"type": "control", "request_id": "r1", "action": action})
            while (answer := client.next())["type"] != "control.result":
                pass
            assert (answer["request_id"], answer["action"]) == ("r1", action)
            assert answer["data"]["success"] is True
        client.say({"type": "control", "request_id": "r2", "action": "stop"})
        while (answer := client.next())["type"] != "control.result":
            pass
        assert answer["data"]["message"] == "reasoning control not enabled for this completion"
        client.say({"type": "cancel", "request_id": "r2"})
        while (answer := client.next())["type"] != "done" or answer["request_id"] != "r2":
            pass


@pytest.mark.parametrize("n_seen", [0, 1, 2, 7])
def test_a_dropped_socket_loses_nothing(server: LiveServer, n_seen: int) -> None:
    expected = over_http(server)
    client = Socket(server)
    name = f"dropped-{n_seen}"
    client.create(conversation_id=name)
    seen = [client.next() for _ in range(n_seen)]
    if not seen:
        # Without an answer nobody knows whether the request has arrived.
        wait_until("the request runs", lambda: found(server, name))
    client.drop()
    with Socket(server) as back:
        after = seen[-1]["event_id"] if seen else None
        back.say({"type": "resume", "conversation_id": name, "after": after})
        rest = back.until_end()
    assert text_of(seen + rest) == expected
    assert [message["event_id"] for message in seen + rest] == list(range(len(seen + rest)))


def found(server: LiveServer, name: str) -> bool:
    return bool(server.ask("/v1/streams/lookup", {"conversation_ids": [name]})[1])


def test_http_and_sockets_share_conversations(server: LiveServer) -> None:
    with Socket(server) as client:
        client.create(conversation_id="shared")
        messages = client.until_end()
        status, body = server.request("GET", "/v1/stream/shared")
        assert status == 200
        events = [event.removeprefix(b"data: ") for event in body.split(b"\n\n")[:-2]]
        assert [json.loads(event) for event in events] == [message["data"] for message in messages[:-1]]
        assert server.request("DELETE", "/v1/stream/shared")[0] == 204
        client.say({"type": "resume", "conversation_id": "shared"})
        assert client.next()["error"]["code"] == 404


def test_foreign_conversations_and_requests(server: LiveServer) -> None:
    with Socket(server) as mine, Socket(server, key="other") as theirs:
        mine.create("r1", conversation_id="mine", **ENDLESS, reasoning_control=True)
        completion = mine.next()["data"]["id"]
        theirs.say({"type": "resume", "conversation_id": "mine"})
        assert theirs.next()["error"]["code"] == 404
        theirs.say({"type": "cancel", "request_id": "r1"})
        assert theirs.next()["error"]["code"] == 404
        for body in ({"request_id": "r1"}, {"request_id": "x", "id": completion}):
            theirs.say({"type": "control", "action": "stop", **body})
            assert theirs.next()["data"]["success"] is False
        # The same name is another conversation under another key.
        theirs.create("r1", conversation_id="mine", max_tokens=2)
        assert theirs.until_end()[-1]["type"] == "done"
        mine.say({"type": "cancel", "request_id": "r1"})
        assert mine.until_end()[-1]["type"] == "done"


# --- attackers ---


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


def test_shutdown_with_live_sockets() -> None:
    flags = ("--shutdown-timeout", "0.2", "--parallel", "1", "--ctx-size", "196608")
    with LiveServer(*flags) as server, Socket(server) as idle, Socket(server) as busy:
        busy.create(**ENDLESS)
        assert busy.next()["type"] == "chat.completion.chunk"
        server.process.terminate()
        end = busy.until_end()[-1]
        assert (end["type"], end["error"]["code"]) == ("error", 503)
        for client in (idle, busy):
            with pytest.raises(ConnectionClosed) as closed:
                client.next()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1001
        server.process.wait(60)
