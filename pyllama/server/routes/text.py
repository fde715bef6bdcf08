"""``POST /tokenize``, ``/detokenize``, ``/apply-template`` and token counting: answered without a slot."""

from __future__ import annotations

import contextlib

import anyio
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from pyllama.server.errors import send_json
from pyllama.server.exchange import ClientGoneError, Exchange
from pyllama.server.state import ServerState

__all__ = ["TextRequests", "routes"]

_PATHS = {
    "/tokenize": "tokenize",
    "/detokenize": "detokenize",
    "/apply-template": "apply_template",
    "/chat/completions/input_tokens": "count_tokens",
    "/v1/chat/completions/input_tokens": "count_tokens",
    "/responses/input_tokens": "count_responses_tokens",
    "/v1/responses/input_tokens": "count_responses_tokens",
    "/v1/messages/count_tokens": "count_anthropic_tokens",
}


def routes(state: ServerState) -> list[Route]:
    """Return the routes of the text requests."""
    prefix = state.settings.api_prefix
    return [
        Route(prefix + path, TextRequests(state, kind), methods=["POST"]) for path, kind in _PATHS.items()
    ]


class TextRequests:
    """One of the endpoints; the core reads the body and writes the answer."""

    def __init__(self, state: ServerState, kind: str) -> None:
        self._state = state
        self._kind = kind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        settings = self._state.settings
        with self._state.running(), contextlib.suppress(ClientGoneError):
            async with Exchange(scope, receive, send) as exchange:
                body = await exchange.read_body(settings.max_body_bytes, settings.body_timeout)
                with anyio.CancelScope() as answering:
                    exchange.watch(answering.cancel)
                    answer = await self._state.answer_text(self._kind, body)
                if not exchange.gone:
                    await send_json(send, 200, answer)
