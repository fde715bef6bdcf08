"""Sockets against a real server: what honest clients get."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, ResponseReceived
from live_server import CHAT, ENDLESS, QUESTION, LiveServer, wait_until
from sockets import PADDLER, SOCKET, Socket
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from wsproto.connection import Connection, ConnectionType
from wsproto.events import TextMessage


@pytest.fixture(scope="module")
def running() -> Iterator[LiveServer]:
    flags = ("--parallel", "3", "--ctx-size", "196608", "--api-key", "right,other")
    with LiveServer(*flags, key="right") as server:
        yield server


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
        for action in ("pause", "resume", "inject", "stop"):
            fields = {"text": "Enough."} if action == "inject" else {}
            client.say({"type": "control", "request_id": "r1", "action": action, **fields})
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


def test_conversations_that_were_begun_over_http(server: LiveServer) -> None:
    body = {"messages": QUESTION, "temperature": 0, "stream": True, "prompt": "x", "n_predict": 4}
    for path, name in ((CHAT, "chat"), ("/completion", "native"), ("/v1/completions", "raw")):
        headers = {"x-conversation-id": name}
        assert server.request("POST", path, json.dumps(body).encode(), headers)[0] == 200
    with Socket(server) as client:
        client.say({"type": "resume", "conversation_id": "chat", "after": 1})
        messages = client.until_end("chat")
        assert [message["event_id"] for message in messages] == list(range(2, 2 + len(messages)))
        assert messages[-1]["type"] == "done"
        for name in ("native", "raw"):
            client.say({"type": "resume", "conversation_id": name})
            assert client.next()["error"]["message"] == "the conversation is no chat completion's"


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


def test_a_key_by_subprotocol(server: LiveServer) -> None:
    coded = base64.urlsafe_b64encode(b"right").decode().rstrip("=")
    url = f"ws://127.0.0.1:{server.port}{SOCKET}"
    with connect(url, subprotocols=["pyllama", "pyllama.key." + coded]) as client:  # type: ignore[list-item]
        assert client.subprotocol == "pyllama"
        client.send("{}")
        assert json.loads(client.recv(timeout=60))["error"]["message"] == "'type' is required"


def test_over_http2(server: LiveServer) -> None:
    client = server.connect()
    h2 = H2Connection(H2Configuration(header_encoding="utf-8"))
    h2.initiate_connection()

    def events() -> list[Event]:
        client.sendall(h2.data_to_send())
        return h2.receive_data(client.recv(65536))

    def open_with(key: str) -> tuple[int, str]:
        stream = h2.get_next_available_stream_id()
        pseudo = {
            "method": "CONNECT",
            "protocol": "websocket",
            "scheme": "http",
            "authority": "x",
            "path": SOCKET,
        }
        headers = {"sec-websocket-version": "13", "authorization": f"Bearer {key}"}
        h2.send_headers(stream, [*((f":{name}", value) for name, value in pseudo.items()), *headers.items()])
        while True:
            for event in events():
                if isinstance(event, ResponseReceived) and event.stream_id == stream:
                    return stream, str(dict(event.headers or ())[":status"])

    while not h2.remote_settings.enable_connect_protocol:
        events()
    assert open_with("wrong")[1] == "401"
    stream, status = open_with("right")
    assert status == "200"
    frames = Connection(ConnectionType.CLIENT)
    body = {"messages": QUESTION, "max_tokens": 3}
    message = {"type": "chat.completion.create", "request_id": "r1", "body": body}
    h2.send_data(stream, frames.send(TextMessage(data=json.dumps(message))))
    kinds: list[str] = []
    while "done" not in kinds:
        for event in events():
            if isinstance(event, DataReceived) and event.stream_id == stream:
                h2.acknowledge_received_data(event.flow_controlled_length or 0, stream)
                frames.receive_data(event.data or b"")
        kinds += [json.loads(each.data)["type"] for each in frames.events() if isinstance(each, TextMessage)]
    assert set(kinds) == {"chat.completion.chunk", "done"}


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
