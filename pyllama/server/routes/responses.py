"""OpenAI's Responses: ``POST /v1/responses``, and what is asked of a response by its id.

A response with ``background`` is made whether somebody reads it or not. It is a session under its own id: it
can be asked for, streamed from any event on, and cancelled, for as long as sessions are kept.
"""

from __future__ import annotations

import contextlib
import re
from functools import partial

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from pyllama.errors import InvalidRequestError, NotFoundError, StreamGapError
from pyllama.server.auth import OWNER
from pyllama.server.background import snapshot
from pyllama.server.errors import json_bytes, send_json
from pyllama.server.exchange import ClientGoneError, Exchange
from pyllama.server.generating import GeneratingEndpoint
from pyllama.server.responses import send_replay
from pyllama.server.session import Session
from pyllama.server.state import ServerState

__all__ = ["routes"]


def routes(state: ServerState) -> list[Route]:
    """Return the routes of responses; token counting is among the text requests."""
    create = GeneratingEndpoint(state, partial(state.prepare_chat, dialect="responses"))
    response, cancel = ResponseEndpoint(state), CancelEndpoint(state)
    found: list[Route] = []
    for path in ("/v1/responses", "/responses"):
        whole = state.settings.api_prefix + path
        found += [
            Route(whole, create, methods=["POST"]),
            Route(whole + "/{response_id}", response, methods=["GET", "DELETE"]),
            Route(whole + "/{response_id}/cancel", cancel, methods=["POST"]),
        ]
    return found


class ResponseEndpoint:
    """A response as it stands, or as a stream from ``starting_after`` on; or away with it."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        session = _find(self._state, scope)
        if scope["method"] == "DELETE":
            self._state.sessions.delete(session.owner, session.conversation_id)
            deleted = {"id": session.stream.id, "object": "response", "deleted": True}
            await send_json(send, 200, json_bytes(deleted))
            return
        query = Request(scope).query_params
        if query.get("stream") not in ("true", "1"):
            await send_json(send, 200, snapshot(session), head=scope["method"] == "HEAD")
            return
        try:
            reader = session.attach(after=_sequence_number(query.get("starting_after", "")))
        except StreamGapError:
            raise InvalidRequestError(
                "the events behind 'starting_after' are gone", param="starting_after"
            ) from None
        with self._state.running(), contextlib.suppress(ClientGoneError):
            async with Exchange(scope, receive, send) as exchange:
                await send_replay(exchange, reader, self._state.settings)


class CancelEndpoint:
    """Ends a response before the next decode; one that has ended stays as it is."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        session = _find(self._state, scope)
        if not session.ended:
            reader = session.attach(session.stream.end_offset, replay=False)
            session.stream.cancel()
            try:
                while not session.ended:
                    await reader.wait()
            finally:
                reader.close()
        await send_json(send, 200, snapshot(session))


def _find(state: ServerState, scope: Scope) -> Session:
    session = state.kept_completion(scope[OWNER], scope["path_params"]["response_id"])
    if session is None or session.stream.dialect != "responses":
        raise NotFoundError("Response not found or expired: only those with 'background' are kept")
    return session


def _sequence_number(text: str) -> int | None:
    # Each event of a response is one of its stream, and both are numbered from 0.
    if not text:
        return None
    if not re.fullmatch("[0-9]{1,18}", text):
        raise InvalidRequestError(
            f"'starting_after' must be a sequence number, but is '{text[:40]}'", param="starting_after"
        )
    return int(text)
