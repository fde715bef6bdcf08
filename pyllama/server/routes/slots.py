"""``GET /slots``: what each slot is doing."""

from __future__ import annotations

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pyllama.errors import EngineUnavailableError, UnsupportedError
from pyllama.server.state import ServerState

__all__ = ["routes"]


def routes(state: ServerState) -> list[Route]:
    """Return the slots' route."""

    async def get_slots(request: Request) -> Response:
        if not state.settings.endpoint_slots:
            raise UnsupportedError("This server does not support slots endpoint. Start it with `--slots`")
        slots = await anyio.to_thread.run_sync(state.engine.slots)  # waits for the step that is running
        if request.query_params.get("fail_on_no_slot") and all(slot["is_processing"] for slot in slots):
            raise EngineUnavailableError("no slot available")
        return JSONResponse(slots)

    return [Route(state.settings.api_prefix + "/slots", get_slots)]
