"""``GET /props`` and, with ``--props``, ``POST /props``."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pyllama.errors import UnsupportedError
from pyllama.server.state import ServerState

__all__ = ["routes"]


def routes(state: ServerState) -> list[Route]:
    """Return the route of the server's properties."""
    settings = state.settings

    async def props(request: Request) -> Response:
        if request.method != "POST":
            flags = {
                "endpoint_slots": settings.endpoint_slots,
                "endpoint_props": settings.endpoint_props,
                "endpoint_metrics": settings.endpoint_metrics,
                "ui": settings.ui,
                "ui_settings": dict(settings.ui_settings),
            }
            return JSONResponse({**flags, **state.engine.props()})
        if not settings.endpoint_props:
            raise UnsupportedError(
                "This server does not support changing global properties. Start it with `--props`"
            )
        # As in llama-server, no property can be changed yet that way.
        return JSONResponse({"success": True})

    return [Route(settings.api_prefix + "/props", props, methods=["GET", "POST"])]
