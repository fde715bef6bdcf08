"""``/api/v1/inference_socket``: Paddler's protocol.

Client:  {"Request":{"id":...,"request":{"ContinueFromConversationHistory":{...}}}}      or
ContinueFromRawPrompt
         {"Notification":{"StopRespondingTo":...}}
         {"Notification":{"Control":{"request_id":...,"action":...}}}                    beyond Paddler, as
         {"Notification":{"Resume":{"conversation_id":...,"after":...}}}                 "conversation_id" in
         a request
Server:  {"Response":{"generated_by":null,"request_id":...,"response":{"GeneratedToken":{...}}}}
         {"Error":{"request_id":...,"error":{"code":...,"description":...}}}

Its clients refuse members they do not know: "event_id" is there for requests of a conversation only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from starlette.types import Scope

from pyllama.errors import EngineBusyError, InvalidRequestError, UnsupportedError
from pyllama.server.errors import describe_exception, json_bytes
from pyllama.server.state import ServerState
from pyllama.server.websocket.paddler_request import history_request, raw_request
from pyllama.server.websocket.protocol import (
    QueueTimeoutError,
    after_event,
    conversation_member,
    id_member,
    quoted,
    take_apart,
    text_member,
)

if TYPE_CHECKING:
    from pyllama.server.websocket.requests import Requests

__all__ = ["PaddlerProtocol", "done_form"]

_ERROR = b'{"Error":'
_DONE = b'{"GeneratedToken":{"Done":{"finish":'
_USAGE = b',"usage":'
_COUNTS = (
    "prompt_tokens",
    "cached_prompt_tokens",
    "input_image_tokens",
    "input_audio_tokens",
    "content_tokens",
    "reasoning_tokens",
    "tool_call_tokens",
    "undeterminable_tokens",
)
_NOTHING_LEFT = json_bytes(
    {"GeneratedToken": {"Done": {"finish": "EndOfGeneration", "usage": dict.fromkeys(_COUNTS, 0)}}}
)


def done_form(scope: Scope) -> str:
    """Return how a socket wants the end told, by its query ``?done=``.

    Raises:
        InvalidRequestError: There is no such form.
    """
    fields = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    form: str = fields.get("done", ["object"])[0]
    if form not in _DONE_FORMS:
        raise InvalidRequestError(f"'done' must be {', '.join(_DONE_FORMS)}, but is {form!r}", param="done")
    return form


# {"Done":{"usage":...}}, as Paddler 4 has it; its older releases' bare word; its newer ones' with the reason.
_DONE_FORMS: dict[str, Callable[[bytes], bytes]] = {
    "object": lambda frame: b'{"GeneratedToken":{"Done":{' + frame[frame.index(_USAGE, len(_DONE)) + 1 :],
    "string": lambda frame: b'{"GeneratedToken":"Done"}',
    "finish": lambda frame: frame,
}


class PaddlerProtocol:
    """The protocol, for sockets that want the end told in one form. It keeps nothing of any socket."""

    content_type = "application/x-ndjson"

    def __init__(self, state: ServerState, done: str) -> None:
        self._state = state
        self._done = _DONE_FORMS[done]

    async def dispatch(self, requests: Requests, message: bytes) -> None:
        """Do what a message says. Raises PyllamaError for what concerns no request."""
        members = await take_apart(message)
        if "Request" in members:
            await self._request(requests, await take_apart(members["Request"]))
        elif "Notification" in members:
            await self._notification(requests, await take_apart(members["Notification"]))
        elif "Error" not in members:
            raise InvalidRequestError("a message is a Request or a Notification")

    def refusal(self, exc: Exception) -> bytes:
        """Return the message for an error that concerns no request."""
        return _error(b'""', exc)

    async def _request(self, requests: Requests, members: dict[str, bytes]) -> None:
        request_id = id_member(members, "id")
        numbered = members.get("conversation_id", b"null") != b"null"
        envelope = _Envelope(request_id, self._done, numbered=numbered)
        async with requests.refusing(request_id, envelope):
            conversation_id = conversation_member(members)
            kinds = await take_apart(members.get("request", b"null"))
            if len(kinds) != 1:
                raise InvalidRequestError("'request' must be an object of one member", param="request")
            ((kind, params),) = kinds.items()
            if kind == "ContinueFromConversationHistory":
                body = history_request(await take_apart(params))
                prepare = partial(self._state.prepare_chat, dialect="paddler")
            elif kind == "ContinueFromRawPrompt":
                body = raw_request(await take_apart(params))
                prepare = partial(self._state.prepare_completion, dialect="paddler")
            else:
                raise UnsupportedError(f"requests of the kind {kind!r} are not supported")
            requests.start(request_id, envelope, body, prepare, conversation_id)

    async def _notification(self, requests: Requests, members: dict[str, bytes]) -> None:
        if "StopRespondingTo" in members:
            # It may have ended meanwhile: that is no error.
            requests.cancel(id_member(members, "StopRespondingTo"))
        elif "Control" in members:
            control = await take_apart(members["Control"])
            request_id = id_member(control, "request_id")
            del control["request_id"]
            await requests.control(request_id, _Envelope(request_id, self._done, numbered=False), control)
        elif "Resume" in members:
            resume = await take_apart(members["Resume"])
            conversation_id = conversation_member(resume)
            if conversation_id is None:
                raise InvalidRequestError("'conversation_id' is required", param="conversation_id")
            request_id = requests.resumed_id(conversation_id, text_member(resume, "request_id", 256))
            envelope = _Envelope(request_id, self._done, numbered=True)
            async with requests.refusing(request_id, envelope):
                requests.resume(request_id, envelope, conversation_id, after_event(resume))
        else:
            raise InvalidRequestError("a Notification is StopRespondingTo, Control or Resume")


class _Envelope:
    def __init__(self, request_id: str, done: Callable[[bytes], bytes], *, numbered: bool) -> None:
        self._id = quoted(request_id)
        self._done = done
        self._numbered = numbered
        self._head = b'{"Response":{"generated_by":null,"request_id":' + self._id

    def events(self, events: Sequence[tuple[int | None, bytes]]) -> list[bytes]:
        """Wrap the core's lines, given with their ids, as messages."""
        messages: list[bytes] = []
        for number, line in events:
            frame = line[:-1]
            if frame.startswith(_ERROR):
                error = frame[len(_ERROR) : -1]
                messages.append(b'{"Error":{"request_id":' + self._id + b',"error":' + error + b"}}")
                continue
            if frame.startswith(_DONE):
                frame = self._done(frame)
            messages.append(self._response(frame, number if self._numbered else None))
        return messages

    def error(self, exc: Exception) -> bytes:
        """Return the message that ends the request with an error, in Paddler's own form where it has one."""
        if isinstance(exc, EngineBusyError):
            return self._response(b'"TooManyBufferedRequests"')
        if isinstance(exc, QueueTimeoutError):
            return self._response(b'"Timeout"')
        if isinstance(exc, InvalidRequestError):
            kind = _token_kind(exc)
            if kind is not None:
                return self._response(json_bytes({"GeneratedToken": {kind: str(exc)}}))
        return _error(self._id, exc)

    def end(self) -> bytes:
        """Return the message that ends a request whose last event the client had before it came back."""
        return self._response(self._done(_NOTHING_LEFT))

    def control(self, action: str | None, answer: bytes) -> bytes:
        """Return the answer to a control."""
        return self._response(b'{"ControlResult":' + answer + b"}")

    def _response(self, value: bytes, event_id: int | None = None) -> bytes:
        number = b"" if event_id is None else b',"event_id":%d' % event_id
        return b"".join((self._head, number, b',"response":', value, b"}}"))


def _token_kind(exc: InvalidRequestError) -> str | None:
    param = exc.param or ""
    if param in ("grammar", "json_schema"):
        return "GrammarSyntaxError"
    if param == "messages" and str(exc).startswith("the chat template"):
        return "ChatTemplateError"
    if param.startswith("messages[") and "reads text only" in str(exc):
        return "MultimodalNotSupported"
    return None


def _error(request_id: bytes, exc: Exception) -> bytes:
    error = describe_exception(exc).error
    body = json_bytes({"code": error["code"], "description": error["message"]})
    return b'{"Error":{"request_id":' + request_id + b',"error":' + body + b"}}"
