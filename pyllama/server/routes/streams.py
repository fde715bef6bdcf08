"""``/v1/stream``: read, look up and delete the streams of conversations (``X-Conversation-Id``)."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from starlette.convertors import PathConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from pyllama.errors import InvalidRequestError, NotFoundError, StreamGapError
from pyllama.server.auth import OWNER
from pyllama.server.conversation import conversation_of_path, position_of, wants_event_ids
from pyllama.server.errors import json_bytes, send_json
from pyllama.server.exchange import ClientGoneError, Exchange
from pyllama.server.responses import send_head, send_replay
from pyllama.server.session import SessionReader
from pyllama.server.state import ServerState

__all__ = ["routes"]

# Bytes of a lookup, which is parsed on the loop, and the ids in it.
_MAX_LOOKUP = 512 * 1024
_MAX_IDS = 10_000


class _AnyText(PathConvertor):
    """The rest of a path, line feeds included, which Starlette's own convertor stops at."""

    regex = r"[\s\S]*"


register_url_convertor("any_text", _AnyText())


def routes(state: ServerState) -> list[Route]:
    """Return the routes of streams."""
    prefix = state.settings.api_prefix
    stream = StreamEndpoint(state)
    return [
        Route(prefix + "/v1/stream", stream, methods=["GET", "DELETE"]),
        Route(prefix + "/v1/stream/{conv_id:any_text}", stream, methods=["GET", "DELETE"]),
        Route(prefix + "/v1/streams/lookup", LookupEndpoint(state), methods=["POST"]),
    ]


class StreamEndpoint:
    """One conversation's stream. The id may hold slashes: the path's form takes the rest of the path.

    A stream of another API key is one that does not exist.
    """

    def __init__(self, state: ServerState) -> None:
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        conversation_id = conversation_of_path(scope)
        if scope["method"] == "DELETE":
            self._state.sessions.delete(scope[OWNER], conversation_id)
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        reader = self._attach(scope, conversation_id)
        if scope["method"] == "HEAD":
            reader.close()
            await send_head(send, reader)
            return
        with self._state.running(), contextlib.suppress(ClientGoneError):
            async with Exchange(scope, receive, send) as exchange:
                await send_replay(exchange, reader, self._state.settings)

    def _attach(self, scope: Scope, conversation_id: str) -> SessionReader:
        session = self._state.sessions.get(scope[OWNER], conversation_id)
        if session is None:
            raise NotFoundError("Stream not found or expired")
        offset, after = position_of(scope)
        try:
            return session.attach(offset, after=after, numbered=wants_event_ids(scope))
        except StreamGapError:
            raise InvalidRequestError("Stream offset lost, please restart") from None


class LookupEndpoint:
    """Which of the conversations that the client names have a stream. It lists no others."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._state.running(), contextlib.suppress(ClientGoneError):
            async with Exchange(scope, receive, send) as exchange:
                settings = self._state.settings
                limit = min(settings.max_body_bytes, _MAX_LOOKUP)
                ids = _read_ids(await exchange.read_body(limit, settings.body_timeout))
                await send_json(send, 200, json_bytes(self._state.sessions.lookup(scope[OWNER], ids)))


def _read_ids(body: bytes) -> list[str]:
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidRequestError("the body is not JSON") from None
    # As llama-server: what is no list of ids names none.
    ids = value.get("conversation_ids") if isinstance(value, dict) else None
    if not isinstance(ids, list):
        return []
    if len(ids) > _MAX_IDS:
        raise HTTPException(413, f"more than {_MAX_IDS} conversation ids")
    return [each for each in ids if isinstance(each, str) and each]
