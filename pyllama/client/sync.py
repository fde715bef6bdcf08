"""A chat completion's stream that reconnects by itself, without an event loop."""

from __future__ import annotations

import time
import uuid
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from types import TracebackType
from typing import Any, Literal, Self

import httpx
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import connect

from pyllama.client.errors import RetryableError, StreamGoneError, error_for
from pyllama.client.retry import Retries, RetryPolicy
from pyllama.client.socket import SocketResumption, socket_url
from pyllama.client.sse import SseResumption

__all__ = ["SyncResumingStream"]


class SyncResumingStream:
    """As ResumingStream, for threads: ``for chunk in stream``, ``with``, ``close()``."""

    def __init__(
        self,
        base_url: str,
        request: Mapping[str, Any] | None,
        *,
        over: Literal["sse", "socket"] = "sse",
        api_key: str | None = None,
        conversation_id: str | None = None,
        position: int | None = None,
        client: httpx.Client | None = None,
        retry: RetryPolicy | None = None,
    ) -> None:
        self.conversation_id = conversation_id or str(uuid.uuid4())
        self._base_url = base_url.rstrip("/")
        self._headers = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
        self._own_client = client is None
        self._client = client or httpx.Client(timeout=httpx.Timeout(30, read=90))
        self._retries = Retries(retry or RetryPolicy())
        self._resumption: SseResumption | SocketResumption
        if over == "sse":
            self._resumption = SseResumption(request, self.conversation_id, position or 0)
        else:
            self._resumption = SocketResumption(request, self.conversation_id, position)
        self._cancelled = False
        self._chunks = self._iterate()

    @property
    def position(self) -> int | None:
        """Where the next connection would go on: a byte offset, or the id of the last event."""
        where = self._resumption
        return where.offset if isinstance(where, SseResumption) else where.after

    def __iter__(self) -> Iterator[Any]:
        return self._chunks

    def cancel(self) -> None:
        """End the completion at the server, and forget the conversation there; idempotent.

        May be called from any thread: an iteration that goes on then ends.
        """
        self._cancelled = True
        params = {"conv_id": self.conversation_id}
        response = self._client.delete(self._base_url + "/v1/stream", params=params, headers=self._headers)
        if response.status_code != 204:
            raise error_for(response.status_code, {"message": f"status {response.status_code}"})

    def close(self) -> None:
        """Let go of the connection; idempotent. The completion goes on."""
        self._chunks.close()
        if self._own_client:
            self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _iterate(self) -> Generator[Any]:
        where = self._resumption
        while not where.finished:
            connection = (
                self._over_sse(where) if isinstance(where, SseResumption) else self._over_socket(where)
            )
            try:
                with closing(connection):
                    for chunk in connection:
                        self._retries.note_progress()
                        yield chunk
            except StreamGoneError:
                if self._cancelled:
                    return
                raise
            except RetryableError as exc:
                time.sleep(self._retries.delay(exc, exc.retry_after))
            except (httpx.TransportError, WebSocketException, OSError, EOFError) as exc:
                time.sleep(self._retries.delay(exc))

    def _over_sse(self, where: SseResumption) -> Generator[Any]:
        ask = where.next_request()
        with self._client.stream(
            ask.method,
            self._base_url + ask.path,
            params=ask.params,
            headers={**self._headers, **ask.headers},
            json=ask.json,
        ) as response:
            body = b"" if response.status_code == 200 else response.read()
            where.note_status(response.status_code, body, response.headers)
            for data in response.iter_bytes():
                yield from where.feed(data)
                if where.finished:
                    return
            where.note_end()

    def _over_socket(self, where: SocketResumption) -> Generator[Any]:
        try:
            with connect(
                socket_url(self._base_url), additional_headers=self._headers, compression=None, max_size=None
            ) as socket:
                socket.send(where.first_message())
                for message in socket:
                    yield from where.feed(message)
                    if where.finished:
                        return
        except InvalidStatus as exc:
            status = exc.response.status_code
            raise error_for(status, {"message": f"the handshake was refused with status {status}"}) from exc
        except ConnectionClosed as exc:
            raise RetryableError(f"the socket closed: {exc}") from exc
        where.note_close()
