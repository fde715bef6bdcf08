"""What both streams share: a conversation, where the client is in it, and how often it may try again."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Literal

from websockets.exceptions import InvalidStatus

from pyllama.client.errors import error_for
from pyllama.client.retry import Retries, RetryPolicy
from pyllama.client.socket import SocketResumption
from pyllama.client.sse import SseResumption

__all__ = ["ResumingBase", "check_deleted", "refused_handshake"]


class ResumingBase:
    """A stream without its connections; ResumingStream documents the arguments."""

    def __init__(
        self,
        base_url: str,
        request: Mapping[str, Any] | None,
        *,
        over: Literal["sse", "socket"],
        api_key: str | None,
        conversation_id: str | None,
        position: int | None,
        retry: RetryPolicy | None,
    ) -> None:
        self.conversation_id: str = conversation_id or str(uuid.uuid4())
        self._base_url = base_url.rstrip("/")
        self._headers = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
        self._retries = Retries(retry or RetryPolicy())
        self._resumption: SseResumption | SocketResumption
        if over == "sse":
            self._resumption = SseResumption(request, self.conversation_id, position or 0)
        else:
            self._resumption = SocketResumption(request, self.conversation_id, position)
        self._cancelled = False

    @property
    def position(self) -> int | None:
        """Where another stream would go on behind the last chunk: a byte offset, or the id of an event."""
        return self._resumption.position

    def _begin_cancel(self) -> tuple[str, dict[str, str]]:
        self._cancelled = True
        return self._base_url + "/v1/stream", {"conv_id": self.conversation_id}


def refused_handshake(exc: InvalidStatus) -> Exception:
    """Return what a refused handshake means."""
    status = exc.response.status_code
    return error_for(status, {"message": f"the handshake was refused with status {status}"})


def check_deleted(status: int) -> None:
    """Raise what the answer to a cancellation means, unless it is done."""
    if status != 204:
        raise error_for(status, {"message": f"status {status}"})
