"""``GET /lora-adapters``, and ``POST`` to change the scales of requests that name none."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from pyllama.server.engine_call import EngineCall
from pyllama.server.state import ServerState

__all__ = ["routes"]


def routes(state: ServerState) -> list[Route]:
    """Return the adapters' routes."""

    def get_adapters(_: Request, __: bytes) -> list[dict[str, Any]]:
        return state.engine.lora_adapters()

    def set_scales(_: Request, body: bytes) -> dict[str, bool]:
        state.engine.set_lora_adapters(body)
        return {"success": True}

    path = state.settings.api_prefix + "/lora-adapters"
    return [
        Route(path, EngineCall(state, get_adapters), methods=["GET"]),
        Route(path, EngineCall(state, set_scales), methods=["POST"]),
    ]
