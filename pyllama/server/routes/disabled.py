"""llama-server's tools and its proxy for MCP: not there, and said in its words."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pyllama.server.state import ServerState

__all__ = ["routes"]

_ANSWER = {"error": {"code": 403, "message": "this feature is disabled", "type": "feature_disabled"}}


def routes(state: ServerState) -> list[Route]:
    """Return the routes that answer 403, as llama-server's do unless a flag enables them."""

    async def refuse(_: Request) -> Response:
        return JSONResponse(_ANSWER, 403)

    prefix = state.settings.api_prefix
    return [Route(prefix + path, refuse, methods=["GET", "POST"]) for path in ("/tools", "/cors-proxy")]
