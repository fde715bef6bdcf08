"""What a response in the background looks like to somebody who asks: taken from its stream's own bytes."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from pyllama.server.errors import json_bytes
from pyllama.server.session import Session

if TYPE_CHECKING:
    from pyllama._core import _llama

__all__ = ["snapshot"]

_ENDS = tuple(b"event: response." + kind + b"\n" for kind in (b"completed", b"incomplete", b"failed"))
# The stream's end holds the last state of the response, and an error event behind it when it failed.
_N_LAST = 2
_MOST_EVENTS = 1 << 40


def snapshot(session: Session) -> bytes:
    """Return the response object as JSON: the last one of its events, or else what its receipt says."""
    stream = session.stream
    if stream.state == "finished":
        return _last_response(stream) or _failed(session)
    return _receipt(session, b"queued" if stream.state == "accepted" else b"in_progress")


def _last_response(stream: _llama.Stream) -> bytes | None:
    from pyllama._core import _llama

    n_events = bisect_left(range(_MOST_EVENTS), True, key=lambda number: stream.offset_after(number) is None)
    begin = 0
    if n_events > _N_LAST:
        begin = stream.offset_after(n_events - _N_LAST - 1) or 0
    size = stream.end_offset - begin
    data = stream.read(begin, size)[0] if size > 0 else b""
    for event in reversed(data.split(b"\n\n")):
        if event.startswith(_ENDS):
            return _llama.json_members(event.partition(b"\ndata: ")[2])["response"]
    return None


def _failed(session: Session) -> bytes:
    # In the queue: there are no events.
    error = {"code": "server_error", "message": str(session.stream.error or "the response failed")}
    return _receipt(session, b"failed").replace(b'"error":null', b'"error":' + json_bytes(error), 1)


def _receipt(session: Session, status: bytes) -> bytes:
    receipt = session.receipt or json_bytes(
        {"id": session.stream.id, "object": "response", "status": "queued", "error": None, "output": []}
    )
    return receipt.replace(b'"status":"queued"', b'"status":"' + status + b'"', 1)
