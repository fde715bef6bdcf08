"""Endpoints whose answer the engine generates: prepared on a worker thread, sent as it grows or whole."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import anyio
from starlette.types import Receive, Scope, Send

from pyllama.loop import StreamReader
from pyllama.server.auth import OWNER
from pyllama.server.conversation import conversation_of_request, wants_event_ids, wants_queue_position
from pyllama.server.errors import send_json
from pyllama.server.exchange import ClientGoneError, Exchange
from pyllama.server.responses import send_stream, send_whole
from pyllama.server.session import SessionReader
from pyllama.server.state import ServerState

if TYPE_CHECKING:
    from pyllama._core import _llama

__all__ = ["GeneratingEndpoint"]


class GeneratingEndpoint:
    """The endpoint, as an ASGI app of its own: it watches the connection from the first byte to the last.

    The body is read as JSON whatever its content type says, as llama-server does: ``curl -d`` names a form.
    """

    def __init__(self, state: ServerState, prepare: Callable[[bytes], Awaitable[_llama.Prepared]]) -> None:
        self._state = state
        self._prepare = prepare

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._state.running(), contextlib.suppress(ClientGoneError):
            async with Exchange(scope, receive, send) as exchange:
                await self._answer(exchange)

    async def _answer(self, exchange: Exchange) -> None:
        settings = self._state.settings
        conversation_id = conversation_of_request(exchange.scope)
        body = await exchange.read_body(settings.max_body_bytes, settings.body_timeout)
        with anyio.CancelScope() as preparing:
            if not conversation_id:  # with one, whoever posted it may come back for it
                exchange.watch(preparing.cancel)
            prepared = await self._prepare(body)
        if exchange.gone:
            return
        streaming = prepared.stream
        ping_interval = prepared.sse_ping_interval
        owner = exchange.scope[OWNER]
        reader: StreamReader | SessionReader
        receipt = prepared.receipt
        if receipt:  # it is found again by its own id too
            conversation_id = conversation_id or prepared.id
        if (streaming or receipt) and conversation_id:
            session = self._state.open_session(prepared, owner, conversation_id)
            if not streaming:
                await send_json(exchange.send, 200, receipt)
                return
            reader = session.attach(numbered=wants_event_ids(exchange.scope), replay=False)
        else:
            reader = self._state.submit(prepared, owner)
        del body
        if streaming:
            tells_queue = wants_queue_position(exchange.scope)
            await send_stream(exchange, reader, settings, ping_interval, tells_queue=tells_queue)
        else:
            await send_whole(exchange, reader, settings)
