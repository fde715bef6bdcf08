"""The endpoints of WebSockets, and how many sockets are open."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator

from starlette.routing import WebSocketRoute
from starlette.types import Receive, Scope, Send

from pyllama.errors import PyllamaError
from pyllama.server.auth import OWNER
from pyllama.server.errors import answer_for, describe_exception
from pyllama.server.state import ServerState
from pyllama.server.websocket.handshake import SUBPROTOCOL, refuse
from pyllama.server.websocket.openai import OpenAIProtocol
from pyllama.server.websocket.paddler import PaddlerProtocol, done_form
from pyllama.server.websocket.protocol import SocketProtocol
from pyllama.server.websocket.requests import RequestNames, Requests
from pyllama.server.websocket.socket import ClientSocket

__all__ = ["routes"]


def routes(state: ServerState) -> list[WebSocketRoute]:
    """Return the routes of WebSockets."""
    prefix = state.settings.api_prefix
    sockets = OpenSockets(state)
    openai = OpenAIProtocol(state)
    return [
        WebSocketRoute(prefix + "/v1/chat/completions/socket", SocketEndpoint(sockets, lambda scope: openai)),
        WebSocketRoute(
            prefix + "/api/v1/inference_socket",
            SocketEndpoint(sockets, lambda scope: PaddlerProtocol(state, done_form(scope))),
        ),
        WebSocketRoute("/{path:path}", _NotFound()),
    ]


class _NotFound:
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await refuse(answer_for(404, "File Not Found"), scope, send)


class OpenSockets:
    """All open sockets of a server."""

    def __init__(self, state: ServerState) -> None:
        self.state = state
        self._names = RequestNames()
        self._open: set[Requests] = set()
        self._n_of_owner: Counter[bytes] = Counter()
        state.on_drain(self._drain)

    @contextlib.contextmanager
    def counted(self, owner: bytes) -> Iterator[bool]:
        """Count a socket of a key as open for as long as the block lasts; False when it has too many."""
        if self._n_of_owner[owner] >= self.state.settings.max_sockets:
            yield False
            return
        self._n_of_owner[owner] += 1
        try:
            yield True
        finally:
            self._n_of_owner[owner] -= 1
            if self._n_of_owner[owner] == 0:
                del self._n_of_owner[owner]

    async def serve(self, socket: ClientSocket, owner: bytes, protocol: SocketProtocol) -> None:
        """Serve an accepted socket to its end."""
        requests = Requests(self.state, owner, socket, protocol, self._names)
        self._open.add(requests)
        try:
            if not self.state.ready:
                requests.drain()
            await requests.serve()
        finally:
            self._open.discard(requests)

    def _drain(self) -> None:
        for requests in list(self._open):
            requests.drain()


class SocketEndpoint:
    """An endpoint, as an ASGI app of its own."""

    def __init__(self, sockets: OpenSockets, protocol_of: Callable[[Scope], SocketProtocol]) -> None:
        self._sockets = sockets
        self._protocol_of = protocol_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        owner: bytes = scope[OWNER]
        try:
            protocol = self._protocol_of(scope)
        except PyllamaError as exc:
            await refuse(describe_exception(exc), scope, send)
            return
        state = self._sockets.state
        with self._sockets.counted(owner) as admitted:
            if not admitted:
                most = f"{state.settings.max_sockets} WebSockets are open (--max-sockets)"
                await refuse(answer_for(429, most, headers={"retry-after": "1"}), scope, send)
                return
            subprotocol = SUBPROTOCOL if SUBPROTOCOL in scope.get("subprotocols", ()) else None
            await send({"type": "websocket.accept", "subprotocol": subprotocol})
            socket = ClientSocket(scope, receive, send, state.settings.write_timeout)
            await self._sockets.serve(socket, owner, protocol)
