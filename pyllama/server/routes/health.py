"""``GET /health``: public, and 503 until the model is loaded (the gate answers that)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pyllama.server.state import ServerState

__all__ = ["routes"]


def routes(state: ServerState) -> list[Route]:
    """Return the health routes."""
    prefix = state.settings.api_prefix
    return [Route(prefix + path, _health) for path in ("/health", "/v1/health")]


async def _health(_: Request) -> Response:
    return JSONResponse({"status": "ok"})
