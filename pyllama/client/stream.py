"""A chat completion's stream that reconnects by itself, on an event loop."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import Any, Literal, Self

import anyio
import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from pyllama.client.errors import RetryableError, StreamGoneError
from pyllama.client.resuming import ResumingBase, check_deleted, refused_handshake
from pyllama.client.retry import RetryPolicy
from pyllama.client.socket import SocketResumption, socket_url
from pyllama.client.sse import SseResumption

__all__ = ["ResumingStream"]


class ResumingStream(ResumingBase):
    """One chat completion, chunk by chunk: ``async for chunk in stream``, once.

    Each chunk is a ``chat.completion.chunk`` of OpenAI's, decoded. A connection that fails is replaced by
    another one, which goes on where the last whole chunk ended. What is left when the iteration is broken off
    goes on at the server: ``cancel()`` ends it.

    Args:
        base_url: The server's address, with its ``--api-prefix``.
        request: The body of a chat request. None reads on in a conversation that is there: ``position`` says
            from where, a byte offset over "sse", over "socket" the id of the last event that was seen.
        over: "sse" for server-sent events, "socket" for a WebSocket, which needs asyncio.
        conversation_id: A name for the stream at the server; a random one by default. A live stream of the
            same name is cancelled.
        client: An open httpx client to use instead of one of its own, for proxies, certificates and the
            like. A socket does not use it.
        retry: How often to try again, and how patiently.

    Raises, while it is iterated, what ``pyllama.client.errors`` shows.
    """

    def __init__(
        self,
        base_url: str,
        request: Mapping[str, Any] | None,
        *,
        over: Literal["sse", "socket"] = "sse",
        api_key: str | None = None,
        conversation_id: str | None = None,
        position: int | None = None,
        client: httpx.AsyncClient | None = None,
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
        self._client = client or httpx.AsyncClient(timeout=httpx.Timeout(30, read=90))
        self._chunks = self._iterate()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._chunks

    async def cancel(self) -> None:
        """End the completion at the server, and forget the conversation there; idempotent.

        May be called from any task: an iteration that goes on then ends.
        """
        url, params = self._begin_cancel()
        response = await self._client.delete(url, params=params, headers=self._headers)
        check_deleted(response.status_code)

    async def aclose(self) -> None:
        """Let go of the connection; idempotent. The completion goes on."""
        await self._chunks.aclose()
        if self._own_client:
            await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _iterate(self) -> AsyncGenerator[Any]:
        where = self._resumption
        while not where.finished:
            connection = (
                self._over_sse(where) if isinstance(where, SseResumption) else self._over_socket(where)
            )
            try:
                async with aclosing(connection):
                    async for chunk in connection:
                        self._retries.note_progress()
                        yield chunk
            except StreamGoneError:
                if self._cancelled:
                    return
                raise
            except RetryableError as exc:
                await anyio.sleep(self._retries.delay(exc, exc.retry_after))
            except (httpx.TransportError, WebSocketException, OSError, EOFError) as exc:
                await anyio.sleep(self._retries.delay(exc))

    async def _over_sse(self, where: SseResumption) -> AsyncGenerator[Any]:
        ask = where.next_request()
        async with self._client.stream(
            ask.method,
            self._base_url + ask.path,
            params=ask.params,
            headers={**self._headers, **ask.headers},
            json=ask.json,
        ) as response:
            body = b"" if response.status_code == 200 else await response.aread()
            where.note_status(response.status_code, body, response.headers)
            async for data in response.aiter_bytes():
                for chunk in where.feed(data):
                    yield chunk
                if where.finished:
                    return
            where.note_end()

    async def _over_socket(self, where: SocketResumption) -> AsyncGenerator[Any]:
        try:
            async with connect(
                socket_url(self._base_url), additional_headers=self._headers, compression=None, max_size=None
            ) as socket:
                await socket.send(where.first_message())
                async for message in socket:
                    for chunk in where.feed(message):
                        yield chunk
                    if where.finished:
                        return
        except InvalidStatus as exc:
            raise refused_handshake(exc) from exc
        except ConnectionClosed as exc:
            raise RetryableError(f"the socket closed: {exc}") from exc
        where.note_close()
