"""How a request names a conversation, and where in its stream it wants to go on.

An id is any text that is not empty. A header holds bytes, which are read as UTF-8, or else as Latin-1, which
is what browsers send.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import parse_qs

from starlette.types import Scope

from pyllama.errors import InvalidRequestError

__all__ = [
    "check_id",
    "conversation_of_path",
    "conversation_of_request",
    "position_of",
    "wants_event_ids",
    "wants_queue_position",
]

# Bytes of an id in UTF-8 at most.
MAX_ID = 16 * 1024
_MAX_NUMBER = (1 << 64) - 1


def conversation_of_request(scope: Scope) -> str:
    """Return the id in ``X-Conversation-Id``, empty when there is none."""
    return _decode(_header(scope, b"x-conversation-id"))


def check_id(conversation_id: str) -> None:
    """Raise InvalidRequestError for an id that is too long to be kept."""
    if len(conversation_id.encode("utf-8", "surrogatepass")) > MAX_ID:
        raise InvalidRequestError(
            f"the conversation id is longer than {MAX_ID} bytes", param="X-Conversation-Id"
        )


def conversation_of_path(scope: Scope) -> str:
    """Return the id in the rest of the path, or that in the query's ``conv_id``.

    Raises:
        InvalidRequestError: There is none.
    """
    found = str(scope.get("path_params", {}).get("conv_id", "")) or _query(scope, "conv_id")
    if not found:
        raise InvalidRequestError("Missing conversation id in path")
    return found


def position_of(scope: Scope) -> tuple[int, int | None]:
    """Return the byte offset a reader asks for, and the id of the last event it has, None when it names none.

    An event id wins over an offset, and the header ``Last-Event-ID`` over the query's ``after``, which a
    client that reconnects by itself sends again as it was.

    Raises:
        InvalidRequestError: One of them is not a number from 0 to 2**64 - 1.
    """
    last = _header(scope, b"last-event-id").decode("latin-1").strip()
    if last:
        return 0, _number(last, "Invalid 'Last-Event-ID'", "Last-Event-ID")
    after = _query(scope, "after")
    if after:
        return 0, _number(after, "Invalid 'after' event id", "after")
    offset = _query(scope, "from")
    return (_number(offset, "Invalid 'from' offset", "from") if offset else 0), None


def wants_event_ids(scope: Scope) -> bool:
    """Whether the reader asks for ``id:`` lines, with ``X-Stream-Event-Ids: 1``."""
    return _header(scope, b"x-stream-event-ids").strip() == b"1"


def wants_queue_position(scope: Scope) -> bool:
    """Whether the client wants to be told its place in the queue, with ``X-Queue-Position: 1``."""
    return _header(scope, b"x-queue-position").strip() == b"1"


def _number(text: str, message: str, param: str) -> int:
    if not re.fullmatch("[0-9]{1,20}", text) or int(text) > _MAX_NUMBER:
        raise InvalidRequestError(message, param=param)
    return int(text)


def _header(scope: Scope, name: bytes) -> bytes:
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    return next((value for known, value in headers if known == name), b"")


def _query(scope: Scope, name: str) -> str:
    fields: dict[str, list[str]]
    try:
        fields = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True, max_num_fields=64)
    except ValueError:
        raise InvalidRequestError("the query has too many fields") from None
    return fields.get(name, [""])[0]


def _decode(value: bytes) -> str:
    value = value.strip()
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")
