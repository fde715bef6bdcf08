"""``GET /slots``: what each slot is doing. ``POST /slots/{id}``: save, restore or empty one."""

from __future__ import annotations

from typing import Any

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pyllama.errors import EngineUnavailableError, InvalidRequestError, UnsupportedError
from pyllama.server.engine_call import EngineCall
from pyllama.server.state import ServerState

__all__ = ["routes"]

_MAX_DIGITS = 10  # of a slot's number


def routes(state: ServerState) -> list[Route]:
    """Return the slots' route."""

    async def get_slots(request: Request) -> Response:
        if not state.settings.endpoint_slots:
            raise UnsupportedError("This server does not support slots endpoint. Start it with `--slots`")
        slots = await anyio.to_thread.run_sync(state.engine.slots)  # waits for the step that is running
        if request.query_params.get("fail_on_no_slot") and all(slot["is_processing"] for slot in slots):
            raise EngineUnavailableError("no slot available")
        return JSONResponse(slots)

    def act(request: Request, body: bytes) -> dict[str, Any]:
        # What a flag forbids is told before what is wrong with the request.
        if not state.settings.slot_save_path:
            raise UnsupportedError(
                "This server does not support slots action. Start it with `--slot-save-path`"
            )
        id_slot = request.path_params["id_slot"]
        if not (id_slot.isascii() and id_slot.isdecimal() and len(id_slot) < _MAX_DIGITS):
            raise InvalidRequestError("Invalid slot ID", param="id_slot")
        return state.engine.slot_action(int(id_slot), request.query_params.get("action", ""), body)

    path = state.settings.api_prefix + "/slots"
    return [
        Route(path, get_slots),
        Route(path + "/{id_slot}", EngineCall(state, act), methods=["POST"]),
    ]
