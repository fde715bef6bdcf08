"""The document at /openapi.json: it names every route and nothing else, and holds together."""

from __future__ import annotations

import json
import re

import pytest
from asgi import serving

from pyllama.server.openapi import build_document
from pyllama.server.routes import all_routes
from pyllama.server.settings import Settings
from pyllama.server.state import ServerState

pytestmark = pytest.mark.anyio


async def routed(prefix: str = "") -> set[tuple[str, str]]:
    routes = all_routes(ServerState(Settings(api_prefix=prefix)))
    return {
        (method.lower(), re.sub(r":\w+}", "}", route.path.removeprefix(prefix)))
        for route in routes
        for method in (route.methods or {"GET"}) - {"HEAD"}
    }


async def test_every_route_is_documented_and_every_documented_path_is_routed() -> None:
    document = build_document()
    documented = {(method, path) for path, item in document["paths"].items() for method in item}
    assert documented == await routed() == await routed("/llm")


async def test_it_is_served_below_the_prefix() -> None:
    async with serving(api_prefix="/llm") as client:
        assert (await client.get("/openapi.json")).status == 404
        document = (await client.get("/llm/openapi.json")).json()
    assert document["servers"] == [{"url": "/llm"}]
    assert document["openapi"].startswith("3.1")


async def test_every_reference_resolves_and_every_schema_is_used() -> None:
    document = build_document()
    used = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert used == set(document["components"]["schemas"])
