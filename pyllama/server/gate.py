"""What every request and WebSocket passes first, in llama-server's order: CORS, preflight, readiness, key."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pyllama.server.auth import OWNER, ApiKeys
from pyllama.server.errors import answer_for
from pyllama.server.state import ServerState
from pyllama.server.websocket.handshake import key_from_subprotocols, refuse

__all__ = ["Gate"]

_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


class Gate:
    """Wraps the routes. Adds the CORS header to every response, errors included.

    They are spelled as llama-server spells them, for clients that mind the case.
    """

    def __init__(self, app: ASGIApp, state: ServerState) -> None:
        settings = state.settings
        self._app = app
        self._state = state
        self._settings = settings
        self._keys = ApiKeys(settings.api_keys)
        prefix = settings.api_prefix
        self._public = frozenset(
            {"/health", "/v1/health", prefix + "/health", prefix + "/v1/health"}
            | {settings.predict_health_route}
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._admit_socket(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = self._allowed_origin(headers.get("origin", ""))
        if origin:
            send = _with_origin(send, origin)
        if scope["method"] == "OPTIONS":
            await self._answer_preflight(send)
        elif not self._state.ready:
            await answer_for(503, self._state.unready_message).send(scope, send)
        elif (owner := self._keys.owner(headers)) is None and scope["path"] not in self._public:
            await answer_for(401, "Invalid API Key").send(scope, send)
        else:
            scope[OWNER] = owner or b""
            await self._app(scope, receive, send)

    # A browser sends a handshake to anywhere, and leaves it to us to look where the page came from.
    async def _admit_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        origin = headers.get("origin", "")
        owner = self._keys.owner(headers)
        if owner is None and (key := key_from_subprotocols(scope.get("subprotocols", ()))) is not None:
            owner = self._keys.owner_of(key)
        if not self._state.ready:
            await refuse(answer_for(503, self._state.unready_message), scope, send)
        elif owner is None:
            await refuse(answer_for(401, "Invalid API Key"), scope, send)
        elif origin and self._allowed_origin(origin) not in ("*", origin):
            await refuse(answer_for(403, "this origin is not allowed (--cors-origins)"), scope, send)
        else:
            scope[OWNER] = owner
            await self._app(scope, receive, send)

    def _allowed_origin(self, origin: str) -> str:
        allowed = self._settings.cors_origins
        if allowed == "*" and self._settings.cors_credentials:
            return origin  # a literal "*" is not valid together with credentials
        if allowed == "localhost":
            return origin if _is_local(origin) else ""
        return allowed

    async def _answer_preflight(self, send: Send) -> None:
        settings = self._settings
        values = {
            b"Access-Control-Allow-Credentials": "true" if settings.cors_credentials else "false",
            b"Access-Control-Allow-Methods": settings.cors_methods,
            b"Access-Control-Allow-Headers": settings.cors_headers,
            b"content-type": "text/html",
            b"content-length": "0",
        }
        raw = [(name, value.encode("latin-1", "replace")) for name, value in values.items()]
        await send({"type": "http.response.start", "status": 200, "headers": raw})
        await send({"type": "http.response.body", "body": b""})


def _is_local(origin: str) -> bool:
    try:
        return urlsplit(origin).hostname in _LOCAL_HOSTS
    except ValueError:
        return False


def _with_origin(send: Send, origin: str) -> Send:
    value = (b"Access-Control-Allow-Origin", origin.encode("latin-1", "replace"))

    async def send_with_origin(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), value, (b"vary", b"Origin")]}
        await send(message)

    return send_with_origin
