"""Endpoints that one call of the engine answers: on a worker thread, as it may wait for a slot or a load."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from pyllama.server.errors import json_bytes, send_json
from pyllama.server.exchange import ClientGoneError, Exchange
from pyllama.server.state import ServerState

__all__ = ["EngineCall"]

# Calls that wait at the same time; more would hold back what needs a thread for milliseconds.
_THREADS = 8
# Bytes of a body, which holds a few numbers and names.
_MAX_BODY = 1024 * 1024


class EngineCall:
    """The endpoint, as an ASGI app of its own. ``call`` takes the request and its body, and returns JSON.

    When the client goes away, the call goes on and nobody hears of its result.
    """

    def __init__(self, state: ServerState, call: Callable[[Request, bytes], Any]) -> None:
        self._state = state
        self._call = call
        self._limiter = anyio.CapacityLimiter(_THREADS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._state.running(), contextlib.suppress(ClientGoneError):
            async with Exchange(scope, receive, send) as exchange:
                body = await exchange.read_body(min(self._state.settings.max_body_bytes, _MAX_BODY))
                with anyio.CancelScope() as waiting:
                    exchange.watch(waiting.cancel)
                    answer = await anyio.to_thread.run_sync(
                        self._call, Request(scope), body, limiter=self._limiter, abandon_on_cancel=True
                    )
                if not exchange.gone:
                    await send_json(send, 200, json_bytes(answer))
