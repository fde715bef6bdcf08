"""A chat completion's stream that reconnects by itself, without an event loop."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from types import TracebackType
from typing import Any, Literal, Self

import httpx
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import connect

from pyllama.client.errors import RetryableError, StreamGoneError
from pyllama.client.resuming import ResumingBase, check_deleted, refused_handshake
from pyllama.client.retry import RetryPolicy
from pyllama.client.socket import SocketResumption, socket_url
from pyllama.client.sse import SseResumption

__all__ = ["SyncResumingStream"]


class SyncResumingStream(ResumingBase):
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
        super().__init__(
            base_url,
            request,
            over=over,
            api_key=api_key,
            conversation_id=conversation_id,
            position=position,
            retry=retry,
        )
        self._own_client = client is None
        self._client = client or httpx.Client(timeout=httpx.Timeout(30, read=90))
        self._chunks = self._iterate()

    def __iter__(self) -> Iterator[Any]:
        return self._chunks

    def cancel(self) -> None:
        """End the completion at the server, and forget the conversation there; idempotent.

        May be called from any thread: an iteration that goes on then ends.
        """
        url, params = self._begin_cancel()
        response = self._client.delete(url, params=params, headers=self._headers)
        check_deleted(response.status_code)

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
            raise refused_handshake(exc) from exc
        except ConnectionClosed as exc:
            raise RetryableError(f"the socket closed: {exc}") from exc
        where.note_close()
