"""``GET /health``: public, and 503 until the model is loaded (the gate answers that)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pyllama.server.settings import Settings
from pyllama.server.state import ServerState

__all__ = ["answer", "paths", "routes"]


def routes(state: ServerState) -> list[Route]:
    """Return the health routes."""
    return [Route(path, answer) for path in paths(state.settings)]


def paths(settings: Settings) -> list[str]:
    """Return the paths of the health routes."""
    return [settings.api_prefix + path for path in ("/health", "/v1/health")]


async def answer(_: Request) -> Response:
    """Say that the server is well."""
    return JSONResponse({"status": "ok"})
