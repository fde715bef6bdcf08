"""Vertex AI's prediction route and its environment."""

from __future__ import annotations

import asyncio
import json
import socket
import urllib.request
from typing import Any

import pytest
from asgi import Call, Client, serving
from real_server import running_server
from test_cli import fails_in_one_line

from pyllama.errors import EngineError, InvalidRequestError
from pyllama.models import demo_model_path
from pyllama.server.routes import all_routes
from pyllama.server.settings import Settings
from pyllama.server.state import ServerState
from pyllama.server.vertex import apply_environment

CHAT = {"@requestFormat": "chatCompletions", "messages": []}
PREDICT = {"AIP_MODE": "PREDICTION"}


def predict(client: Client, *instances: Any, path: str = "/predict") -> Call:
    body = json.dumps({"instances": instances}).encode()
    call = client.call("POST", path, {"content-length": str(len(body)), "x-conversation-id": "c"})
    call.give(body)
    return call


def answering(client: Client) -> None:
    def answer(stream: Any) -> None:
        stream.start()
        stream.append(b'{"n":%d}' % len(client.engine.streams))
        stream.finish()

    client.engine.on_submit = answer


def errors(call: Call) -> list[int | None]:
    return [value.get("error", {}).get("code") for value in call.json()["predictions"]]


@pytest.mark.anyio
async def test_every_instance_has_its_answer_in_its_place() -> None:
    async with serving(predict_route="/predict") as client:
        answering(client)
        call = await predict(
            client, CHAT, 5, {**CHAT, "stream": True}, {"@requestFormat": "nothing"}, CHAT
        ).end()
        assert call.status == 200
        assert errors(call) == [None, 400, None, 400, None]
        assert sorted(value.get("n", 0) for value in call.json()["predictions"]) == [0, 0, 1, 2, 3]


@pytest.mark.anyio
async def test_formats_are_names_and_paths() -> None:
    async with serving(predict_route="/predict", api_prefix="/llm") as client:
        answering(client)
        names = ["chatCompletions", "/v1/chat/completions", "messages", "responses", "/v1/responses"]
        call = await predict(client, *({"@requestFormat": name} for name in names)).end()
        assert errors(call) == [None] * len(names)
        dialects = sorted(stream.dialect for stream in client.engine.streams)
        assert dialects == ["anthropic", "openai", "openai", "responses", "responses"]
        call = await predict(client, {"@requestFormat": "predict"}, {"@requestFormat": "/health"}).end()
        assert errors(call) == [400, 400]


@pytest.mark.anyio
async def test_no_more_at_once_than_there_are_slots() -> None:
    async with serving(predict_route="/predict") as client:
        call = predict(client, *[CHAT] * 5)
        for n_done in range(5):
            while len(client.engine.streams) <= n_done:
                assert not call.task.done(), call.body
                await asyncio.sleep(0)
            assert len(client.engine.streams) <= n_done + client.engine.n_slots
            stream = client.engine.streams[n_done]
            stream.start()
            stream.append(b"{}")
            stream.finish()
        await call.end()
        assert call.json() == {"predictions": [{}] * 5}


@pytest.mark.anyio
async def test_a_failure_is_an_object_too() -> None:
    async with serving(predict_route="/predict") as client:
        client.engine.on_submit = lambda stream: stream.finish(EngineError("broken"))
        call = await predict(client, CHAT).end()
        assert call.json()["predictions"][0]["error"]["message"] == "broken"


@pytest.mark.anyio
async def test_leaving_cancels_the_instances() -> None:
    async with serving(predict_route="/predict") as client:
        call = predict(client, CHAT, CHAT, CHAT)
        await client.stream_of(call)
        while len(client.engine.streams) < 2:
            assert not call.task.done(), call.body
            await asyncio.sleep(0)
        for stream in client.engine.streams:
            stream.on_cancel = lambda stream=stream: stream.finish(EngineError("cancelled"))
        call.leave()
        await call.end()
        assert len(client.engine.streams) == 2
        assert all(stream.cancelled.is_set() for stream in client.engine.streams)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"instances":{}}', b'{"instances":[' + b"5," * 128 + b"5]}"]
)
async def test_bad_bodies(body: bytes) -> None:
    async with serving(predict_route="/predict") as client:
        call = client.call("POST", "/predict", {"content-length": str(len(body))})
        call.give(body)
        await call.end()
        assert call.status == 400
        assert call.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.anyio
async def test_the_health_route_is_public() -> None:
    async with serving(predict_route="/predict", predict_health_route="/isalive", api_keys=("k",)) as client:
        assert (await client.get("/isalive")).status == 200
        assert (await predict(client, CHAT).end()).status == 401
    async with serving() as client:
        assert (await client.get("/isalive")).status == 404


def test_the_environment() -> None:
    plain = Settings(port=9000)
    assert apply_environment(plain, {"AIP_HTTP_PORT": "1"}) == (plain, "")
    settings, warning = apply_environment(plain, PREDICT)
    assert (settings.port, settings.predict_route, settings.predict_health_route) == (8080, "/predict", "")
    assert "9000" in warning
    assert apply_environment(Settings(port=8080), PREDICT)[1] == ""
    routes = {"AIP_HTTP_PORT": "81", "AIP_PREDICT_ROUTE": "p", "AIP_HEALTH_ROUTE": "/h"}
    settings, _ = apply_environment(plain, {**PREDICT, **routes})
    assert (settings.port, settings.predict_route, settings.predict_health_route) == (81, "/p", "/h")
    for port in ("x", "-1", "65536", "8080 ", "²"):
        with pytest.raises(InvalidRequestError, match="AIP_HTTP_PORT"):
            apply_environment(plain, {**PREDICT, "AIP_HTTP_PORT": port})


@pytest.mark.parametrize(
    "clash",
    [
        {"predict_route": "/v1/chat/completions"},
        {"predict_route": "/health"},
        {"predict_route": "/predict", "predict_health_route": "/props"},
    ],
)
def test_routes_that_clash(clash: dict[str, str]) -> None:
    with pytest.raises(InvalidRequestError, match="conflicts"):
        all_routes(ServerState(Settings(**clash)))


def test_the_health_route_may_be_the_usual_one() -> None:
    all_routes(ServerState(Settings(predict_route="/predict", predict_health_route="/health")))


def test_a_clash_ends_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIP_MODE", "PREDICTION")
    monkeypatch.setenv("AIP_PREDICT_ROUTE", "/props")
    monkeypatch.setenv("AIP_HTTP_PORT", "0")
    assert "AIP_PREDICT_ROUTE=/props conflicts" in fails_in_one_line(
        "--port", "0", "--model", str(demo_model_path())
    )


def test_a_server_process() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    with running_server(environment={**PREDICT, "AIP_HTTP_PORT": str(free)}) as port:
        assert port == free
        question = {"messages": [{"role": "user", "content": "What is 17 + 25?"}], "max_tokens": 4}
        counted = {"@requestFormat": "tokenize", "content": "a"}
        body = {"instances": [{**CHAT, **question}, counted, {**CHAT, "messages": 5}]}
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/predict",
            json.dumps(body).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            chat, tokens, bad = json.load(response)["predictions"]
        assert chat["choices"][0]["finish_reason"] == "length"
        assert tokens["tokens"]
        assert bad["error"]["param"] == "messages"
