"""What every request passes first: readiness, keys, CORS; and the envelope of the errors."""

from __future__ import annotations

import pytest
from asgi import Client, serving
from fake_core import Engine

from pyllama.server.routes import all_routes
from pyllama.server.settings import Settings
from pyllama.server.state import ServerState

pytestmark = pytest.mark.anyio

KEY = {"authorization": "Bearer right"}


async def test_loading_answers_503_everywhere() -> None:
    client = Client(Engine(), ServerState(Settings()))
    for path in ("/health", "/v1/models", "/nowhere"):
        call = await client.get(path)
        assert call.status == 503
        assert call.json() == {
            "error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}
        }


async def test_health() -> None:
    async with serving() as client:
        for path in ("/health", "/v1/health"):
            call = await client.get(path)
            assert (call.status, call.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": "Bearer "}, 401),
        ({"authorization": "Bearer rig"}, 401),
        (KEY, 200),
        ({"authorization": "Bearer second"}, 200),
        ({"x-api-key": "right"}, 200),
        ({"x-api-key": "wrong"}, 401),
    ],
)
async def test_api_keys(headers: dict[str, str], status: int) -> None:
    async with serving(api_keys=("right", "second")) as client:
        call = await client.get("/v1/models", headers)
        assert call.status == status
        if status == 401:
            error = {"code": 401, "message": "Invalid API Key", "type": "authentication_error"}
            assert call.json() == {"error": error}


async def test_key_that_is_not_ascii() -> None:
    async with serving(api_keys=("schl\u00fcssel",)) as client:
        assert (await client.get("/v1/models", {"authorization": "Bearer schl\u00fcssel"})).status == 200
        assert (await client.get("/v1/models", {"authorization": "Bearer schl\u00fcssen"})).status == 401


async def test_health_is_public_and_unknown_paths_are_not() -> None:
    async with serving(api_keys=("right",), api_prefix="/llm") as client:
        assert (await client.get("/llm/health")).status == 200
        assert (await client.get("/nowhere")).status == 401
        assert (await client.get("/nowhere", KEY)).status == 404


async def test_every_route_but_health_needs_a_key() -> None:
    async with serving(api_keys=("right",), endpoint_metrics=True, endpoint_props=True) as client:
        open_paths = set()
        for route in all_routes(ServerState(Settings())):
            for method in route.methods or ():
                call = await client.call(method, route.path).end()
                assert call.status in (200, 401), route.path
                if call.status == 200:
                    open_paths.add(route.path)
        assert open_paths == {"/health", "/v1/health"}


async def test_api_prefix() -> None:
    async with serving(api_prefix="/llm") as client:
        assert (await client.get("/llm/v1/models")).status == 200
        assert (await client.get("/v1/models")).status == 404


async def test_unknown_path_and_wrong_method() -> None:
    async with serving() as client:
        call = await client.get("/nowhere")
        assert (call.status, call.json()["error"]) == (
            404,
            {"code": 404, "message": "File Not Found", "type": "not_found_error"},
        )
        call = await client.get("/v1/chat/completions")
        assert call.status == 404
        assert call.headers["allow"] == "POST"
        assert call.json()["error"]["message"] == "File Not Found"


@pytest.mark.parametrize(
    ("settings", "origin", "allowed"),
    [
        ({}, "https://a.example", "https://a.example"),
        ({"cors_credentials": False}, "https://a.example", "*"),
        ({"cors_origins": "https://b.example"}, "https://a.example", "https://b.example"),
        ({"cors_origins": "localhost"}, "http://localhost:3000", "http://localhost:3000"),
        ({"cors_origins": "localhost"}, "http://[::1]:3000", "http://[::1]:3000"),
        ({"cors_origins": "localhost"}, "http://localhost.evil.example", None),
        ({"cors_origins": "localhost"}, "http://[", None),
    ],
)
async def test_cors(settings: dict[str, object], origin: str, allowed: str | None) -> None:
    async with serving(**settings) as client:
        for path in ("/health", "/nowhere"):
            call = await client.get(path, {"origin": origin})
            assert call.headers.get("access-control-allow-origin") == allowed


async def test_preflight_needs_no_key() -> None:
    async with serving(api_keys=("right",)) as client:
        call = client.call("OPTIONS", "/v1/chat/completions", {"origin": "https://a.example"})
        call.give(b"")
        await call.end()
        assert (call.status, call.body) == (200, b"")
        assert call.headers["access-control-allow-origin"] == "https://a.example"
        assert call.headers["access-control-allow-credentials"] == "true"
        assert call.headers["access-control-allow-methods"] == "GET, POST, DELETE, OPTIONS"
        assert call.headers["access-control-allow-headers"] == "*"


async def test_answers_before_the_body_was_read_drop_it() -> None:
    async with serving(api_keys=("right",)) as client:
        call = client.call("POST", "/v1/chat/completions", {"content-length": "50000000"})
        await call.until(lambda call: call.body != b"")
        assert (call.status, call.complete) == (401, False)
        assert call.headers["connection"] == "close"
        call.give(b"x" * 1000, more=True)
        call.give(b"x")
        await call.end()
        assert call.complete
