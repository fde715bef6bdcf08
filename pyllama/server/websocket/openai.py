"""``/v1/chat/completions/socket``: OpenAI's chat completions on one socket.

Client:  {"type":"chat.completion.create","request_id":...,"body":{...},"conversation_id":...}
         {"type":"control","request_id":...,"action":...}
         {"type":"cancel","request_id":...}
         {"type":"resume","conversation_id":...,"after":...,"request_id":...}
Server:  {"type":"chat.completion.chunk","request_id":...,"event_id":...,"data":{...}}
         {"type":"control.result","request_id":...,"action":...,"data":{...}}
         {"type":"done","request_id":...,"event_id":...}
         {"type":"error","request_id":...,"error":{...}}

A request ends with "done" or "error". An error without a request id concerns a message that made no request.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyllama.errors import InvalidRequestError, NotFoundError, UnsupportedError
from pyllama.server.errors import describe_exception, json_bytes
from pyllama.server.state import ServerState
from pyllama.server.websocket.protocol import (
    after_event,
    conversation_member,
    id_member,
    quoted,
    take_apart,
    text_member,
)

if TYPE_CHECKING:
    from pyllama.server.websocket.requests import Requests

__all__ = ["OpenAIProtocol"]

_DATA = b"data: "
_DONE = b"data: [DONE]\n\n"
_ERROR = b'data: {"error":'
# In every chunk, and in no text: there its quotes are escaped.
_CHUNK = b'"object":"chat.completion.chunk"'
# Of a message, not of the control in it.
_OURS = ("type", "request_id")


class OpenAIProtocol:
    """The protocol; it keeps nothing of any socket."""

    content_type = "text/event-stream"

    def __init__(self, state: ServerState) -> None:
        self._state = state

    async def dispatch(self, requests: Requests, message: bytes) -> None:
        """Do what a message says. Raises PyllamaError for what concerns no request."""
        members = await take_apart(message)
        kind = text_member(members, "type", 64)
        if kind == "chat.completion.create":
            request_id = id_member(members, "request_id")
            envelope = _Envelope(request_id)
            async with requests.refusing(request_id, envelope):
                body = _streaming_body(members)
                conversation_id = conversation_member(members)
                requests.start(request_id, envelope, body, self._state.prepare_chat, conversation_id)
        elif kind == "control":
            request_id = id_member(members, "request_id")
            control = {name: value for name, value in members.items() if name not in _OURS}
            await requests.control(request_id, _Envelope(request_id), control)
        elif kind == "cancel":
            request_id = id_member(members, "request_id")
            if not requests.cancel(request_id):
                raise NotFoundError(f"no request {request_id!r} is running on this socket")
        elif kind == "resume":
            conversation_id = conversation_member(members)
            if conversation_id is None:
                raise InvalidRequestError("'conversation_id' is required", param="conversation_id")
            request_id = requests.resumed_id(conversation_id, text_member(members, "request_id", 256))
            envelope = _Envelope(request_id)
            async with requests.refusing(request_id, envelope):
                requests.resume(request_id, envelope, conversation_id, after_event(members))
        elif kind is None:
            raise InvalidRequestError("'type' is required", param="type")
        else:
            raise UnsupportedError(f"unknown message type {kind!r}")

    def refusal(self, exc: Exception) -> bytes:
        """Return the message for an error that concerns no request."""
        return _error(b"null", exc)


def _streaming_body(members: dict[str, bytes]) -> bytes:
    body = members.get("body", b"")
    if not body.startswith(b"{"):
        raise InvalidRequestError("'body' must be the JSON object of a chat request", param="body")
    # Of several members of one name the last one counts.
    stream = b'"stream":true}'
    return body[:-1] + (stream if body[1:-1].strip() == b"" else b"," + stream)


class _Envelope:
    def __init__(self, request_id: str) -> None:
        self._id = quoted(request_id)
        of_request = b'","request_id":' + self._id + b',"event_id":'
        self._chunk = b'{"type":"chat.completion.chunk' + of_request
        self._done = b'{"type":"done' + of_request
        self._error = b'{"type":"error' + of_request

    def events(self, events: Sequence[tuple[int | None, bytes]]) -> list[bytes]:
        """Wrap server-sent events of the core, given with their ids, as messages."""
        messages: list[bytes] = []
        for number, event in events:
            event_id = b"null" if number is None else b"%d" % number
            if event == _DONE:
                messages.append(self._done + event_id + b"}")
            elif event.startswith(_ERROR):
                messages.append(self._error + event_id + b"," + event[len(_DATA) + 1 : -2])
            elif _CHUNK not in event:
                # Begun over HTTP, at another endpoint.
                raise InvalidRequestError("the conversation is no chat completion's", param="conversation_id")
            else:
                messages.append(b"".join((self._chunk, event_id, b',"data":', event[len(_DATA) : -2], b"}")))
        return messages

    def error(self, exc: Exception) -> bytes:
        """Return the message that ends the request with an error."""
        return _error(self._id, exc)

    def end(self) -> bytes:
        """Return the message that ends a request whose last event the client had before it came back."""
        return self._done + b"null}"

    def control(self, action: str | None, answer: bytes) -> bytes:
        """Return the answer to a control."""
        named = b"null" if action is None else quoted(action)
        head = b'{"type":"control.result","request_id":' + self._id + b',"action":' + named
        if answer.startswith(b'{"error":'):
            return head + b"," + answer[1:]
        return head + b',"data":' + answer + b"}"


def _error(request_id: bytes, exc: Exception) -> bytes:
    error = json_bytes(describe_exception(exc).error)
    return b'{"type":"error","request_id":' + request_id + b',"error":' + error + b"}"
