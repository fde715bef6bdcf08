"""A control of a running completion, however it came in."""

from __future__ import annotations

import anyio.to_thread

from pyllama.server.state import ServerState

__all__ = ["answer_control"]

# Bytes of a body that is parsed on the loop.
_SMALL_BODY = 8 * 1024

# Of ids that never were, that have ended, and that belong to others: nobody can tell them apart.
_NO_COMPLETION = b'{"success":false,"message":"no active completion for this id"}'


async def answer_control(state: ServerState, owner: bytes, body: bytes) -> bytes:
    """Apply the JSON of a control to one of the owner's completions; return the answer's.

    Raises:
        InvalidRequestError: The id or the action is missing or unknown, or a field is wrong.
        EngineBusyError: Too many controls of the completion are waiting.
    """
    from pyllama._core import _llama

    if len(body) <= _SMALL_BODY:
        request = _llama.ControlRequest(body)
    else:
        request = await anyio.to_thread.run_sync(_llama.ControlRequest, body, limiter=state.control_limiter)
    completion = state.completion(owner, request.id)
    return _NO_COMPLETION if completion is None else await completion.control(request)
