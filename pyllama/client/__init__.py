"""A client whose streams survive their connections: ``pip install pyllama-engine[client]``.

ResumingStream begins a chat completion under a conversation id, and reads it over as many connections as it
takes. SyncResumingStream is the same without an event loop.
"""

try:
    import httpx as _httpx
    import websockets as _websockets
except ModuleNotFoundError as exc:
    raise ModuleNotFoundError(
        f"pyllama.client needs {exc.name}: pip install pyllama-engine[client]", name=exc.name
    ) from None

from pyllama.client.errors import (
    AuthenticationError,
    ClientError,
    RequestRefusedError,
    RetriesExhaustedError,
    StreamFailedError,
    StreamGapError,
    StreamGoneError,
)
from pyllama.client.retry import RetryPolicy
from pyllama.client.stream import ResumingStream
from pyllama.client.sync import SyncResumingStream

__all__ = [
    "AuthenticationError",
    "ClientError",
    "RequestRefusedError",
    "ResumingStream",
    "RetriesExhaustedError",
    "RetryPolicy",
    "StreamFailedError",
    "StreamGapError",
    "StreamGoneError",
    "SyncResumingStream",
]

del _httpx, _websockets
