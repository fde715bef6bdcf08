"""``POST /v1/chat/completions``: OpenAI's chat completions, streamed or whole."""

from __future__ import annotations

import contextlib

import anyio
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from pyllama.server.exchange import ClientGoneError, Exchange
from pyllama.server.responses import send_stream, send_whole
from pyllama.server.state import ServerState

__all__ = ["ChatCompletions", "routes"]


def routes(state: ServerState) -> list[Route]:
    """Return the chat routes."""
    endpoint = ChatCompletions(state)
    prefix = state.settings.api_prefix
    return [
        Route(prefix + path, endpoint, methods=["POST"])
        for path in ("/v1/chat/completions", "/chat/completions")
    ]


class ChatCompletions:
    """The endpoint, as an ASGI app of its own: it watches the connection from the first byte to the last.

    The body is read as JSON whatever its content type says, as llama-server does: ``curl -d`` names a form.
    """

    def __init__(self, state: ServerState) -> None:
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._state.running(), contextlib.suppress(ClientGoneError):
            async with Exchange(scope, receive, send) as exchange:
                await self._answer(exchange)

    async def _answer(self, exchange: Exchange) -> None:
        settings = self._state.settings
        body = await exchange.read_body(settings.max_body_bytes)
        with anyio.CancelScope() as preparing:
            exchange.watch(preparing.cancel)
            prepared = await self._state.prepare_chat(body)
        if exchange.gone:
            return
        streaming = prepared.stream
        reader = self._state.submit(prepared)
        del body
        if streaming:
            await send_stream(exchange, reader, settings)
        else:
            await send_whole(exchange, reader, settings)
