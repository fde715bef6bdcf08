"""Vertex AI's prediction route: many requests to our own endpoints in one body.

Each instance names its endpoint by ``@requestFormat``, as ``chatCompletions`` or as a path, and is answered
by that endpoint, in process; what it would answer with an error is an error object in its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import Iterable
from http import HTTPStatus

import anyio
import anyio.to_thread
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pyllama.errors import InvalidRequestError
from pyllama.server.errors import answer_for, json_bytes, send_json
from pyllama.server.exchange import ClientGoneError, Exchange
from pyllama.server.routes import health
from pyllama.server.state import ServerState

__all__ = ["PredictEndpoint", "routes"]

# Headers of the whole request that say something of its own body, or of a stream.
_OWN_HEADERS = frozenset({b"content-length", b"transfer-encoding", b"x-conversation-id"})


def routes(state: ServerState, others: Iterable[BaseRoute]) -> list[Route]:
    """Return the routes of Vertex AI beside the ``others``; none unless its environment asks for them.

    Raises:
        InvalidRequestError: A route is taken already.
    """
    settings = state.settings
    if not settings.predict_route:
        return []
    known = [route for route in others if isinstance(route, Route)]
    taken = {route.path for route in known}
    if settings.predict_route in taken:
        raise InvalidRequestError(
            f"AIP_PREDICT_ROUTE={settings.predict_route} conflicts with a route of the server"
        )
    endpoint = PredictEndpoint(state, _endpoints(known, settings.api_prefix))
    found = [Route(settings.predict_route, endpoint, methods=["POST"])]
    if settings.predict_health_route and settings.predict_health_route not in health.paths(settings):
        if settings.predict_health_route in taken:
            raise InvalidRequestError(
                f"AIP_HEALTH_ROUTE={settings.predict_health_route} conflicts with a route of the server"
            )
        found.append(Route(settings.predict_health_route, health.answer))
    return found


def _endpoints(routes: Iterable[Route], prefix: str) -> dict[str, str]:
    # By path and by name; of two paths with one name, the one below /v1 has it.
    paths = [
        route.path.removeprefix(prefix)
        for route in routes
        if "POST" in (route.methods or ()) and "{" not in route.path
    ]
    found = {
        _name_of(path): prefix + path for path in sorted(paths, key=lambda path: path.startswith("/v1/"))
    }
    return found | {path: prefix + path for path in paths}


def _name_of(path: str) -> str:
    # "/v1/chat/completions" is chatCompletions.
    first, *others = path.removeprefix("/v1").strip("/").replace("-", "/").replace("_", "/").split("/")
    return first + "".join(word[:1].upper() + word[1:] for word in others)


class PredictEndpoint:
    """The endpoint, as an ASGI app of its own. No more instances are on their way than there are slots."""

    def __init__(self, state: ServerState, endpoints: dict[str, str]) -> None:
        self._state = state
        self._endpoints = endpoints
        self._split_limiter = anyio.CapacityLimiter(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from pyllama._core import _llama

        settings = self._state.settings
        with self._state.running(), contextlib.suppress(ClientGoneError):
            async with Exchange(scope, receive, send) as exchange:
                body = await exchange.read_body(settings.max_body_bytes, settings.body_timeout)
                instances = await anyio.to_thread.run_sync(
                    _llama.split_predictions, body, limiter=self._split_limiter
                )
                del body
                gone = asyncio.Event()
                exchange.watch(gone.set)
                places = asyncio.Semaphore(self._state.engine.n_slots)
                async with asyncio.TaskGroup() as group:
                    tasks = [
                        group.create_task(self._predict(scope, instance, places, gone))
                        for instance in instances
                    ]
                if not exchange.gone:
                    predictions = b",".join(task.result() for task in tasks)
                    await send_json(send, 200, b'{"predictions":[' + predictions + b"]}")

    async def _predict(
        self, scope: Scope, instance: tuple[str, bytes, str], places: asyncio.Semaphore, gone: asyncio.Event
    ) -> bytes:
        name, body, problem = instance
        path = self._endpoints.get(name)
        if problem or path is None:
            return answer_for(400, problem or f"no endpoint for @requestFormat '{name[:200]}'").body()
        async with places:
            if gone.is_set():
                return b""
            return await _ask(scope["app"], scope, path, body, gone)


async def _ask(app: ASGIApp, scope: Scope, path: str, body: bytes, gone: asyncio.Event) -> bytes:
    """Ask the application itself; return its answer as JSON."""
    pending = [body]
    status = HTTPStatus.INTERNAL_SERVER_ERROR.value
    content_type = b""
    answer: list[bytes] = []

    async def receive() -> Message:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        nonlocal status, content_type
        if message["type"] == "http.response.start":
            status = message["status"]
            content_type = dict(message.get("headers", ())).get(b"content-type", b"")
        else:
            answer.append(message.get("body", b""))

    headers = [header for header in scope["headers"] if header[0].lower() not in _OWN_HEADERS]
    headers.append((b"content-length", str(len(body)).encode()))
    inner = {
        **{name: value for name, value in scope.items() if name not in ("endpoint", "path_params", "route")},
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": headers,
    }
    try:
        await app(inner, receive, send)
    except Exception:
        traceback.print_exc()  # it has been answered; the others go on
    data = b"".join(answer)
    if content_type.startswith(b"application/json") and data:
        return data
    if status >= 400 or not data:
        return answer_for(
            status if status >= 400 else 500, data.decode("utf-8", "replace") or "no answer"
        ).body()
    return json_bytes(data.decode("utf-8", "replace"))
