"""A WebSocket's handshake: refusals as plain HTTP, and a key that a browser can send.

A page cannot set headers on a WebSocket, but it can offer subprotocols:

    new WebSocket(url, ["pyllama", "pyllama.key." + base64url(key)])

The one named "pyllama" is accepted; what holds the key is never echoed.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable

from starlette.types import Message, Scope, Send

from pyllama.server.errors import ErrorAnswer

__all__ = ["SUBPROTOCOL", "key_from_subprotocols", "refuse"]

SUBPROTOCOL = "pyllama"
_KEY_PREFIX = "pyllama.key."


def key_from_subprotocols(offered: Iterable[str]) -> bytes | None:
    """Return the key among a handshake's subprotocols, if there is one."""
    for name in offered:
        if name.startswith(_KEY_PREFIX):
            coded = name.removeprefix(_KEY_PREFIX).encode("latin-1")
            try:
                return base64.b64decode(coded + b"=" * (-len(coded) % 4), altchars=b"-_", validate=True)
            except binascii.Error:
                return b""
    return None


async def refuse(answer: ErrorAnswer, scope: Scope, send: Send) -> None:
    """Answer a handshake with an HTTP error; where the server cannot do that, with its own refusal."""
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1008})
        return

    async def send_refusal(message: Message) -> None:
        message = {**message, "type": "websocket." + message["type"]}
        if message["type"] == "websocket.http.response.start" and scope.get("http_version", "1.1") < "2":
            message["headers"] = [*message["headers"], (b"connection", b"close")]
        await send(message)

    await answer.send(scope, send_refusal)
