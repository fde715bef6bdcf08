"""``POST /v1/chat/completions/control``: steer a completion while it runs."""

from __future__ import annotations

import contextlib

import anyio.to_thread
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from pyllama.server.auth import OWNER
from pyllama.server.errors import send_json
from pyllama.server.exchange import ClientGoneError, Exchange
from pyllama.server.state import ServerState

__all__ = ["ControlEndpoint", "routes"]

# Bytes of a body, which holds a few numbers and names, and of one that is parsed on the loop.
_MAX_BODY = 1024 * 1024
_SMALL_BODY = 8 * 1024

# Of ids that never were, that have ended, and that belong to others: nobody can tell them apart.
_NO_COMPLETION = b'{"success":false,"message":"no active completion for this id"}'


def routes(state: ServerState) -> list[Route]:
    """Return the control route."""
    path = state.settings.api_prefix + "/v1/chat/completions/control"
    return [Route(path, ControlEndpoint(state), methods=["POST"])]


class ControlEndpoint:
    """The endpoint, as an ASGI app of its own. It never waits for more than the step that is running."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._parse_limiter = anyio.CapacityLimiter(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        settings = self._state.settings
        with self._state.running(), contextlib.suppress(ClientGoneError):
            async with Exchange(scope, receive, send) as exchange:
                limit = min(settings.max_body_bytes, _MAX_BODY)
                body = await exchange.read_body(limit, settings.body_timeout)
                await send_json(send, 200, await self._control(scope[OWNER], body))

    async def _control(self, owner: bytes, body: bytes) -> bytes:
        from pyllama._core import _llama

        if len(body) <= _SMALL_BODY:
            request = _llama.ControlRequest(body)
        else:
            request = await anyio.to_thread.run_sync(_llama.ControlRequest, body, limiter=self._parse_limiter)
        reader = self._state.completion(owner, request.id)
        return _NO_COMPLETION if reader is None else await reader.control(request)
