"""``GET /openapi.json``: what there is, for people and for generators of clients."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pyllama.server.openapi import build_document
from pyllama.server.state import ServerState

__all__ = ["routes"]


def routes(state: ServerState) -> list[Route]:
    """Return the document's route."""
    document = build_document(state.settings.api_prefix)

    async def get_document(_: Request) -> Response:
        return JSONResponse(document)

    return [Route(state.settings.api_prefix + "/openapi.json", get_document)]
