"""The ASGI application."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from pyllama.errors import EngineError, PyllamaError
from pyllama.server import websocket
from pyllama.server.errors import describe_exception, dialect_of
from pyllama.server.gate import Gate
from pyllama.server.logs import complain
from pyllama.server.routes import all_routes
from pyllama.server.state import ServerState
from pyllama.server.unread import UnreadBody

__all__ = ["create_app"]


def create_app(state: ServerState) -> ASGIApp:
    """Return the server as an ASGI application. It answers 503 until ``state.attach()``."""
    # What is no error of ours is answered too, and then raised again, so that Hypercorn logs its traceback.
    handlers = {HTTPException: _answer, PyllamaError: _answer, Exception: _answer}
    routes: list[BaseRoute] = [*all_routes(state), *websocket.routes(state)]
    if state.settings.static_path:
        files = StaticFiles(directory=state.settings.static_path, html=True)
        routes.append(Mount(state.settings.api_prefix or "/", files))
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return UnreadBody(Gate(app, state))


def _answer(request: Request, exc: Exception) -> Response:
    dialect = dialect_of(request.scope["path"])
    answer = describe_exception(exc, dialect)
    if isinstance(exc, EngineError):
        complain(str(exc))
    media_type = "application/json; charset=utf-8"
    return Response(answer.body(dialect), answer.status, answer.headers, media_type)
