"""Controls over real HTTP: what each body gets, whose completions a key reaches, and floods."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any, BinaryIO, ClassVar

import pytest
from live_server import CHAT, ENDLESS, LiveServer, check_error, http_post

CONTROL = "/v1/chat/completions/control"
GONE = b'{"success":false,"message":"no active completion for this id"}'
NOT_ENABLED = b'{"success":false,"message":"reasoning control not enabled for this completion"}'


@pytest.fixture(scope="module")
def running() -> Iterator[LiveServer]:
    flags = ("--parallel", "3", "--ctx-size", "196608", "--api-key", "right,other", "--max-paused", "2")
    with LiveServer(*flags, key="right") as server:
        yield server


@pytest.fixture(autouse=True)
def _streams(server: LiveServer) -> Iterator[None]:
    yield
    while Events.opened:
        Events.opened.pop().close()


class Events:
    """The chunks of a stream on a raw connection."""

    opened: ClassVar[list[Events]] = []

    def __init__(self, server: LiveServer, path: str = CHAT, **fields: Any) -> None:
        body = {**ENDLESS, "reasoning_control": True, **fields}
        headers = b"authorization: Bearer right\r\n"
        self.client: socket.socket = server.connect(http_post(body, path=path, headers=headers))
        self.response = http.client.HTTPResponse(self.client)
        self.opened.append(self)
        self.response.begin()
        assert self.response.status == 200
        self.id: str = self.next()["id"]

    def close(self) -> None:
        """Leave."""
        self.response.close()
        self.client.close()

    def next(self) -> Any:
        """Return the next chunk, None at the end."""
        while line := self.response.readline():
            if line.startswith(b"data: {"):
                return json.loads(line[6:])
        return None

    def rest(self) -> list[Any]:
        """Return all chunks to come."""
        chunks = []
        while (chunk := self.next()) is not None:
            chunks.append(chunk)
        return chunks


def control(server: LiveServer, *, key: str | None = None, **body: Any) -> tuple[int, bytes]:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    return server.request("POST", CONTROL, json.dumps(body).encode(), headers)


def succeed(server: LiveServer, **body: Any) -> Any:
    status, answer = control(server, **body)
    assert status == 200, answer
    value = json.loads(answer)
    assert value["success"] is True, value
    assert list(value) == ["success", "applied", "state", "paused", "position", "event_id"]
    assert value["applied"] is True
    assert value["event_id"] is None
    return value


def test_pause_resume_and_stop(server: LiveServer) -> None:
    events = Events(server)
    paused = succeed(server, id=events.id, action="pause", model="any")
    assert paused["paused"] is True
    assert paused["state"] in ("prefill", "reasoning", "content")
    assert [slot["state"] for slot in server.get("/slots")].count("paused") == 1
    server.answers_a_question()
    resumed = succeed(server, id=events.id, action="resume")
    assert resumed["position"] == paused["position"]
    stopped = succeed(server, id=events.id, action="stop", choice=0)
    assert (stopped["state"], stopped["paused"]) == ("finished", False)
    chunks = events.rest()
    notes = [chunk["control"] for chunk in chunks if "control" in chunk]
    expected = {"pause": paused, "resume": resumed, "stop": stopped}
    for note, (action, answer) in zip(notes, expected.items(), strict=True):
        del answer["success"]
        assert note == {"action": action, **answer}
    finish = chunks[-1]["choices"][0]["finish_reason"]
    assert finish == "stop"
    assert chunks[-1]["timings"]["predicted_n"] == stopped["position"]
    for chunk in chunks:
        assert chunk["id"] == events.id
        assert chunk["object"] == "chat.completion.chunk"
    assert server.metric('pyllama:controls_total{action="stop"}') >= 1


def test_text_is_put_in(server: LiveServer) -> None:
    events = Events(server)
    put = succeed(server, id=events.id, action="inject", text="Enough, I have to \u20ac answer </think>now.")
    assert put["state"] in ("prefill", "reasoning", "content")
    stopped = succeed(server, id=events.id, action="stop")
    assert stopped["position"] > put["position"] + 5
    assert control(server, id=events.id, action="inject", text="x") == (200, GONE)
    chunks = events.rest()
    places = [i for i, chunk in enumerate(chunks) if "control" in chunk]
    assert chunks[places[0]]["control"]["action"] == "inject"
    assert chunks[places[0]]["control"]["position"] == put["position"]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks[places[0] : places[1]] if chunk["choices"]]
    text = "".join(delta.get("reasoning_content") or delta.get("content") or "" for delta in deltas)
    assert text.startswith("Enough, I have to \u20ac answer")
    assert server.metric('pyllama:controls_total{action="inject"}') >= 1


def test_text_that_does_not_fit_is_refused(server: LiveServer) -> None:
    events = Events(server, max_tokens=50_000)
    status, answer = control(server, id=events.id, action="inject", text="\u4e16" * 20_000)
    value = json.loads(answer)
    assert (status, value["success"], value["applied"]) == (200, False, False), value
    assert "has room for" in value["message"]
    succeed(server, id=events.id, action="stop")


def test_unknown_finished_and_foreign_ids_get_the_same_answer(server: LiveServer) -> None:
    ended = Events(server)
    succeed(server, id=ended.id, action="stop")
    ended.rest()
    events = Events(server)
    for action in ("pause", "resume", "stop"):
        assert control(server, id="chatcmpl-unknown", action=action) == (200, GONE)
        assert control(server, id=ended.id, action=action) == (200, GONE)
        assert control(server, id=events.id, action=action, key="other") == (200, GONE)
    status, answer = control(server, id=events.id, action="stop", key="wrong")
    assert status == 401
    assert json.loads(answer)["error"]["message"] == "Invalid API Key"
    succeed(server, id=events.id, action="stop")


def test_without_opting_in_the_stream_is_untouched(server: LiveServer) -> None:
    events = Events(server, reasoning_control=False, max_tokens=200)
    for action in ("pause", "resume", "stop"):
        assert control(server, id=events.id, action=action) in ((200, NOT_ENABLED), (200, GONE))
    chunks = events.rest()
    assert not any("control" in chunk for chunk in chunks)
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("path", ["/v1/completions", "/completion"])
def test_raw_completions(server: LiveServer, path: str) -> None:
    events = Events(
        server,
        path,
        prompt="Once [think]",
        reasoning_budget_start_tag="[think]",
        reasoning_budget_end_tags=["[/think]"],
        reasoning_budget_message="Enough.",
    )
    assert events.id.startswith("cmpl-" if path.startswith("/v1") else "chatcmpl-")
    ended = succeed(server, id=events.id, action="reasoning_end")
    assert ended["state"] == "content"
    stopped = succeed(server, id=events.id, action="stop")
    chunks = events.rest()
    notes = [chunk["control"] for chunk in chunks if "control" in chunk]
    for note, (action, answer) in zip(notes, {"reasoning_end": ended, "stop": stopped}.items(), strict=True):
        del answer["success"]
        assert note == {"action": action, **answer}
    after = chunks[[("control" in chunk) for chunk in chunks].index(True) + 1 :]
    text = "".join(c["choices"][0]["text"] if "choices" in c else c["content"] for c in after)
    assert text.startswith("Enough.[/think]")


@pytest.mark.parametrize(
    "body",
    [
        {"action": "pause"},
        {"id": "", "action": "pause"},
        {"id": None, "action": "pause"},
        {"id": 1, "action": "pause"},
        {"id": ["chatcmpl-1"], "action": "nonsense"},
        {},
    ],
)
def test_a_missing_id(server: LiveServer, body: dict[str, Any]) -> None:
    status, answer = control(server, **body)
    assert check_error(status, json.loads(answer)) == "missing completion id"


@pytest.mark.parametrize("action", [None, "", "nonsense", "STOP", 1, {}, [], "stop "])
def test_an_unknown_action(server: LiveServer, action: Any) -> None:
    status, answer = control(server, id="chatcmpl-1", action=action)
    assert check_error(status, json.loads(answer)) == "unknown control action"


def test_other_bad_bodies(server: LiveServer) -> None:
    for body in (b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000):
        status, answer = server.request("POST", CONTROL, body)
        check_error(status, json.loads(answer))
    status, answer = server.request("POST", CONTROL, b'{"id":"' + b"x" * 2**20 + b'"}')
    check_error(status, json.loads(answer), code=413)
    for text in (None, "", 7, ["no"], "x" * (2**16 + 1)):
        status, answer = control(server, id="chatcmpl-1", action="inject", text=text)
        check_error(status, json.loads(answer), param="text")
    events = Events(server)
    for choice in (1, -1, 128, "0", 0.5):
        status, answer = control(server, id=events.id, action="stop", choice=choice)
        check_error(status, json.loads(answer), param="choice")
    succeed(server, id=events.id, action="stop")


def test_actions_that_do_not_fit(server: LiveServer) -> None:
    streams = [Events(server) for _ in range(3)]
    first, second, third = (events.id for events in streams)
    status, answer = control(server, id=first, action="resume")
    value = json.loads(answer)
    assert (status, value["success"], value["applied"]) == (200, False, False)
    assert value["message"] == "the completion is not paused"
    assert value["position"] is None
    for each in (first, second):
        succeed(server, id=each, action="pause")
        assert json.loads(control(server, id=each, action="pause")[1])["success"] is False
    value = json.loads(control(server, id=third, action="pause")[1])
    assert value["message"].startswith("too many completions are paused")
    for each in (first, second, third):
        succeed(server, id=each, action="stop")


def test_a_client_that_leaves_while_paused(server: LiveServer) -> None:
    events = Events(server)
    succeed(server, id=events.id, action="pause")
    events.close()  # the fixture checks that nothing is left


def test_ten_thousand_controls_over_one_connection(server: LiveServer) -> None:
    events = Events(server)
    headers = b"authorization: Bearer right\r\n"
    requests = [
        http_post({"id": events.id, "action": action}, path=CONTROL, headers=headers)
        for action in ("pause", "resume")
    ]
    before = server.resident_bytes()
    client = server.connect()
    with client.makefile("rb") as answers:
        for _ in range(100):  # as many as fit into the socket's buffers are on their way at once
            client.sendall(b"".join(requests) * 50)
            for _ in range(100):
                answer = read_pipelined(answers)
                assert "success" in answer or answer["error"]["code"] == 429
    assert server.resident_bytes() < before + 64 * 2**20


def read_pipelined(answers: BinaryIO) -> Any:
    length = 0
    while (line := answers.readline()) != b"\r\n":
        if line.startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    return json.loads(answers.read(length))


def test_a_flood_of_controls_that_nobody_reads_the_answers_of(server: LiveServer) -> None:
    events = Events(server)
    client = server.connect()
    client.settimeout(0.2)
    request = http_post(
        {"id": events.id, "action": "resume"}, path=CONTROL, headers=b"authorization: Bearer right\r\n"
    )
    with contextlib.suppress(TimeoutError):  # the server reads no more than it can answer
        client.sendall(request * 10_000)
    client.close()
    succeed(server, id=events.id, action="stop")
