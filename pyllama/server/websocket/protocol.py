"""What a protocol on a WebSocket has to say: how messages are read, and how answers are wrapped.

The frames that the core renders are never decoded here: an envelope is put around them by concatenation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import anyio.to_thread

from pyllama.errors import EngineUnavailableError, InvalidRequestError

if TYPE_CHECKING:
    from pyllama.server.websocket.requests import Requests

__all__ = [
    "Envelope",
    "QueueTimeoutError",
    "SocketProtocol",
    "after_event",
    "conversation_member",
    "id_member",
    "join_members",
    "quoted",
    "take_apart",
    "text_member",
]

# A client's own ids, in characters.
_MAX_ID = 256
# Bytes of a message that is taken apart on the event loop.
_SMALL_MESSAGE = 64 * 1024


class QueueTimeoutError(EngineUnavailableError):
    """A request waited for a slot for longer than ``--queue-timeout``."""

    def __init__(self) -> None:
        super().__init__("the request has waited too long for a slot (--queue-timeout)")


class Envelope(Protocol):
    """What goes around the answers to one request."""

    def events(self, events: Sequence[tuple[int | None, bytes]]) -> list[bytes]:
        """Wrap events of the core, given with their ids, as messages."""

    def end(self) -> bytes:
        """Return the message that ends a request whose last event the client had before it came back."""

    def error(self, exc: Exception) -> bytes:
        """Return the message that ends the request with an error."""

    def control(self, action: str | None, answer: bytes) -> bytes:
        """Return the answer to a control: the core's, or ``{"error":...}``."""


class SocketProtocol(Protocol):
    """One protocol; it keeps nothing of any socket."""

    content_type: str  # of the streams it can resume

    async def dispatch(self, requests: Requests, message: bytes) -> None:
        """Do what a message says. Raises PyllamaError for what concerns no request."""

    def refusal(self, exc: Exception) -> bytes:
        """Return the message for an error that concerns no request."""


async def take_apart(message: bytes) -> dict[str, bytes]:
    """Return the members of a message, each as it stands there. A long one is read on a worker thread."""
    from pyllama._core import _llama

    if len(message) <= _SMALL_MESSAGE:
        return _llama.json_members(message)
    return await anyio.to_thread.run_sync(_llama.json_members, message)


def join_members(members: Mapping[str, bytes]) -> bytes:
    """Return a JSON object of members as take_apart gives them."""
    return b"{" + b",".join(quoted(name) + b":" + value for name, value in members.items()) + b"}"


def quoted(text: str) -> bytes:
    """Return a JSON string."""
    return json.dumps(text).encode()


def text_member(members: Mapping[str, bytes], name: str, most: int) -> str | None:
    """Return a member that is a string of ``most`` characters at most; None when it is absent or null.

    Raises:
        InvalidRequestError: It is something else.
    """
    raw = members.get(name, b"null")
    if raw == b"null":
        return None
    # Escaped, one character takes twelve bytes at most.
    value = None
    if len(raw) <= 12 * most + 2:
        try:
            value = json.loads(raw)
        except ValueError:
            value = None
    if not isinstance(value, str) or len(value) > most:
        raise InvalidRequestError(f"'{name}' must be a string of at most {most} characters", param=name)
    return value


def id_member(members: Mapping[str, bytes], name: str) -> str:
    """Return a member that is an id of the client's: a string that is not empty."""
    value = text_member(members, name, _MAX_ID)
    if not value:
        raise InvalidRequestError(f"'{name}' is required: a string that is not empty", param=name)
    return value


def conversation_member(members: Mapping[str, bytes]) -> str | None:
    """Return the member "conversation_id"; None when it is absent, null or empty."""
    value = text_member(members, "conversation_id", 1 << 20)
    return value or None


def after_event(members: Mapping[str, bytes]) -> int | None:
    """Return the member "after": the id of the last event that the client has, None when it has none."""
    raw = members.get("after", b"null")
    if raw == b"null":
        return None
    if not raw.isdigit() or len(raw) > 18:
        raise InvalidRequestError("'after' must be the id of an event, or null", param="after")
    return int(raw)
