"""Who may open a socket, and how others are turned away: with plain HTTP."""

from __future__ import annotations

import base64
import json

import pytest
from asgi import SOCKET, Client, serving
from fake_core import Engine

from pyllama.server.settings import Settings
from pyllama.server.state import ServerState

pytestmark = pytest.mark.anyio

PADDLER = "/api/v1/inference_socket"
KEY = {"authorization": "Bearer right"}


def key_protocol(key: str) -> str:
    return "pyllama.key." + base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


async def refused(client: Client, status: int, path: str = SOCKET, **how: object) -> str:
    socket = await client.socket(path, **how)  # type: ignore[arg-type]
    await socket.end()
    assert (socket.accepted, socket.status) == (False, status)
    assert socket.headers["connection"] == "close"
    assert int(socket.headers["content-length"]) == len(socket.body)
    error = json.loads(socket.body)["error"]
    assert error["code"] == status
    return str(error["message"])


@pytest.mark.parametrize("path", [SOCKET, PADDLER])
async def test_keys(path: str) -> None:
    async with serving(api_keys=("right", "second key/+")) as client:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"x-api-key": "wrong"}):
            assert await refused(client, 401, path, headers=headers) == "Invalid API Key"
        for headers in (KEY, {"x-api-key": "right"}, {"authorization": "Bearer second key/+"}):
            assert (await client.socket(path, headers)).accepted


async def test_a_key_by_subprotocol() -> None:
    async with serving(api_keys=("right", "schl\u00fcssel/?+")) as client:
        for key in ("right", "schl\u00fcssel/?+"):
            socket = await client.socket(subprotocols=["pyllama", key_protocol(key)])
            assert (socket.accepted, socket.subprotocol) == (True, "pyllama")
        # The key is never echoed, also where nothing else was offered.
        socket = await client.socket(subprotocols=[key_protocol("right")])
        assert (socket.accepted, socket.subprotocol) == (True, None)
        for offered in (["pyllama"], [key_protocol("wrong")], ["pyllama.key."], ["pyllama.key.!"], ["right"]):
            await refused(client, 401, subprotocols=offered)
        # A header that is wrong is not mended by a subprotocol that is right: either one opens.
        socket = await client.socket(
            headers={"authorization": "Bearer wrong"}, subprotocols=[key_protocol("right")]
        )
        assert socket.accepted


async def test_loading_and_unknown_paths() -> None:
    loading = Client(Engine(), ServerState(Settings(api_keys=("right",))))
    assert await refused(loading, 503) == "Loading model"
    async with serving(api_prefix="/llm") as client:
        for path in (SOCKET, "/nowhere", "/llm/v1/chat/completions"):
            assert await refused(client, 404, path) == "File Not Found"
        assert (await client.socket("/llm" + SOCKET)).accepted
        # And a socket's path takes no request.
        assert (await client.get("/llm" + SOCKET)).status == 404


@pytest.mark.parametrize(
    ("settings", "origin", "status"),
    [
        ({}, "https://a.example", 200),
        ({"cors_credentials": False}, "https://a.example", 200),
        ({"cors_origins": "https://b.example"}, "https://a.example", 403),
        ({"cors_origins": "https://b.example"}, "https://b.example", 200),
        ({"cors_origins": "https://b.example"}, None, 200),
        ({"cors_origins": "localhost"}, "http://localhost:3000", 200),
        ({"cors_origins": "localhost"}, "http://localhost.evil.example", 403),
        ({"cors_origins": "localhost"}, "null", 403),
    ],
)
async def test_origins(settings: dict[str, object], origin: str | None, status: int) -> None:
    async with serving(**settings) as client:
        headers = {} if origin is None else {"origin": origin}
        if status == 200:
            assert (await client.socket(headers=headers)).accepted
        else:
            assert "--cors-origins" in await refused(client, status, headers=headers)


async def test_sockets_of_a_key_are_limited() -> None:
    async with serving(api_keys=("right", "other"), max_sockets=2) as client:
        first = await client.socket(headers=KEY)
        await client.socket(PADDLER, KEY)
        assert "--max-sockets" in await refused(client, 429, headers=KEY)
        assert (await client.socket(headers={"x-api-key": "other"})).accepted
        first.leave()
        await first.end()
        assert (await client.socket(headers=KEY)).accepted


async def test_the_form_of_the_end_is_checked() -> None:
    async with serving() as client:
        assert "'done'" in await refused(client, 400, PADDLER, query=b"done=maybe")
        for form in (b"done=string", b"done=object", b"done=finish", b"done=", b"x=1"):
            socket = await client.socket(PADDLER, query=form)
            assert socket.accepted == (form != b"done=")


async def test_without_the_extension_the_handshake_is_refused_all_the_same() -> None:
    async with serving(api_keys=("right",)) as client:
        sent = []

        async def send(message: object) -> None:
            sent.append(message)

        async def receive() -> object:
            return {"type": "websocket.connect"}

        scope = {"type": "websocket", "path": SOCKET, "headers": [], "query_string": b"", "subprotocols": []}
        await client.app(scope, receive, send)  # type: ignore[arg-type]
        assert sent == [{"type": "websocket.close", "code": 1008}]
