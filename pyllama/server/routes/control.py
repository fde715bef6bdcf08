"""``POST /v1/chat/completions/control``: steer a completion while it runs."""

from __future__ import annotations

import contextlib

from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from pyllama.server.auth import OWNER
from pyllama.server.control import answer_control
from pyllama.server.errors import send_json
from pyllama.server.exchange import ClientGoneError, Exchange
from pyllama.server.state import ServerState

__all__ = ["ControlEndpoint", "routes"]

# Bytes of a body, which holds a few numbers and names.
_MAX_BODY = 1024 * 1024


def routes(state: ServerState) -> list[Route]:
    """Return the control route."""
    path = state.settings.api_prefix + "/v1/chat/completions/control"
    return [Route(path, ControlEndpoint(state), methods=["POST"])]


class ControlEndpoint:
    """The endpoint, as an ASGI app of its own. It never waits for more than the step that is running."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        settings = self._state.settings
        with self._state.running(), contextlib.suppress(ClientGoneError):
            async with Exchange(scope, receive, send) as exchange:
                limit = min(settings.max_body_bytes, _MAX_BODY)
                body = await exchange.read_body(limit, settings.body_timeout)
                await send_json(send, 200, await answer_control(self._state, scope[OWNER], body))
