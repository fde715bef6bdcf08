r"""The requests that run on one socket.

Each is a task of its own, which waits for its stream and for a turn at the socket by turns:

    preparing --submitted--> reading --finished--> gone
                  resume ------^  \--the ring overtook it, an error--> gone

A request without a conversation ends with its socket; one with a conversation goes on without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import anyio

from pyllama.errors import EngineBusyError, EngineUnavailableError, InvalidRequestError, PyllamaError
from pyllama.server.control import answer_control
from pyllama.server.errors import describe_exception, json_bytes
from pyllama.server.logs import complain
from pyllama.server.session import Session, SessionReader
from pyllama.server.state import ServerState
from pyllama.server.websocket.protocol import (
    Envelope,
    QueueTimeoutError,
    SocketProtocol,
    join_members,
    quoted,
    text_member,
)
from pyllama.server.websocket.reader import EventReader, attach_reader, open_reader
from pyllama.server.websocket.socket import ClientSocket, SocketClosedError

if TYPE_CHECKING:
    from pyllama._core import _llama

__all__ = ["RequestNames", "Requests"]

# By what name the client that began a conversation knows its request: for when it comes back.
RequestNames = WeakKeyDictionary[Session, str]

# Controls of one socket that may wait for their answer.
_MAX_CONTROLS = 64

_GOING_AWAY = 1001


class _Request:
    def __init__(self, request_id: str, envelope: Envelope) -> None:
        self.id = request_id
        self.envelope = envelope
        self.reader: EventReader | None = None
        self.submitted = asyncio.Event()  # or refused
        self.cancelled = False
        self.timed_out = False
        self.timer: asyncio.TimerHandle | None = None


class Requests:
    """What one client runs on its socket."""

    def __init__(
        self,
        state: ServerState,
        owner: bytes,
        socket: ClientSocket,
        protocol: SocketProtocol,
        names: RequestNames,
    ) -> None:
        self._state = state
        self._owner = owner
        self._socket = socket
        self._protocol = protocol
        self._names = names
        self._running: dict[str, _Request] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._n_active = 0  # running ones, and those whose end has yet to be told
        self._n_controls = 0
        self._n_unprepared = 0  # bytes
        self._prepared = asyncio.Event()
        self._receiving = anyio.CancelScope()
        self._draining = False

    async def serve(self) -> None:
        """Do what the client's messages say until its socket closes, or the server drains it."""
        try:
            with self._receiving:
                while (message := await self._socket.receive()) is not None:
                    try:
                        await self._protocol.dispatch(self, message)
                    except PyllamaError as exc:
                        await self._socket.send(self._protocol.refusal(exc))
                    await self._make_room()
        except SocketClosedError:
            pass
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._socket.close(_GOING_AWAY, "the server is shutting down")

    def drain(self) -> None:
        """Close the socket when its last request has ended; idempotent."""
        self._draining = True
        if self._n_active == 0:
            self._receiving.cancel()

    # --- what messages ask for ---

    @contextlib.asynccontextmanager
    async def refusing(self, request_id: str, envelope: Envelope) -> AsyncIterator[None]:
        """Answer a request with what goes wrong within.

        Raises:
            InvalidRequestError: Another one has its id.
        """
        if request_id in self._running:
            raise InvalidRequestError(
                f"the request id {request_id!r} is in use; the request that has it goes on",
                param="request_id",
            )
        try:
            yield
        except PyllamaError as exc:
            await self._socket.send(envelope.error(exc))

    def start(
        self,
        request_id: str,
        envelope: Envelope,
        body: bytes,
        prepare: Callable[[bytes], Awaitable[_llama.Prepared]],
        conversation_id: str | None,
    ) -> None:
        """Prepare a request and run it.

        Raises:
            EngineBusyError: The socket has too many requests.
            EngineUnavailableError: The server is shutting down.
        """
        request = self._enter(request_id, envelope)
        self._n_unprepared += len(body)
        self._spawn(self._run(request, self._submit(request, body, prepare, conversation_id)))

    def resume(self, request_id: str, envelope: Envelope, conversation_id: str, after: int | None) -> None:
        """Go on with a conversation behind an event; raises as start()."""
        request = self._enter(request_id, envelope)
        self._spawn(self._run(request, self._attach(request, conversation_id, after)))

    def resumed_id(self, conversation_id: str, given: str | None) -> str:
        """Return the id of a request that resumes: as given, what it had at first, or the conversation's."""
        if given:
            return given
        session = self._state.sessions.get(self._owner, conversation_id)
        return conversation_id if session is None else self._names.get(session, conversation_id)

    def cancel(self, request_id: str) -> bool:
        """Stop a request before its next token; what it has said still comes. False when there is none."""
        request = self._running.get(request_id)
        if request is None:
            return False
        request.cancelled = True
        if request.reader is not None:
            request.reader.stream.cancel()
        return True

    async def control(self, request_id: str, envelope: Envelope, members: Mapping[str, bytes]) -> None:
        """Steer a request; the answer comes in the envelope."""
        try:
            action = text_member(members, "action", 64)
        except InvalidRequestError:
            action = None
        if self._n_controls >= _MAX_CONTROLS:
            busy = EngineBusyError(f"{_MAX_CONTROLS} controls of this socket are waiting")
            await self._socket.send(envelope.control(action, _error_object(busy)))
            return
        self._n_controls += 1
        self._spawn(self._control(self._running.get(request_id), envelope, action, members))

    # --- how that is done ---

    def _enter(self, request_id: str, envelope: Envelope) -> _Request:
        if self._draining or not self._state.ready:
            raise EngineUnavailableError(self._state.unready_message)
        most = self._state.settings.max_socket_requests
        # A request that has ended may wait for a turn to say so.
        if len(self._running) >= most or self._n_active >= 2 * most:
            raise EngineBusyError(f"{most} requests are running on this socket (--max-socket-requests)")
        self._n_active += 1
        request = self._running[request_id] = _Request(request_id, envelope)
        return request

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _make_room(self) -> None:
        # Bodies that are not prepared yet: no more than one message's worth, and what came in beside it.
        while self._n_unprepared > self._state.settings.max_socket_message:
            self._prepared.clear()
            await self._prepared.wait()

    async def _run(self, request: _Request, begin: Coroutine[Any, Any, None]) -> None:
        try:
            with self._state.running():
                try:
                    await begin
                    await self._deliver(request)
                except PyllamaError as exc:
                    self._leave(request)
                    if describe_exception(exc).status == 500:
                        complain(str(exc))
                    await self._socket.send(request.envelope.error(exc))
        except SocketClosedError:
            pass
        except Exception as exc:
            traceback.print_exc()
            with contextlib.suppress(SocketClosedError):
                await self._socket.send(request.envelope.error(exc))
        finally:
            self._leave(request)
            self._n_active -= 1
            if self._draining and self._n_active == 0:
                self._receiving.cancel()

    async def _submit(
        self,
        request: _Request,
        body: bytes,
        prepare: Callable[[bytes], Awaitable[_llama.Prepared]],
        conversation_id: str | None,
    ) -> None:
        try:
            prepared = await prepare(body)
        finally:
            self._n_unprepared -= len(body)
            self._prepared.set()
        reader = open_reader(self._state, prepared, self._owner, conversation_id)
        if isinstance(reader, SessionReader):
            self._names[reader.session] = request.id
        self._begin_reading(request, reader)
        limit = self._state.settings.queue_timeout
        if limit > 0:
            loop = asyncio.get_running_loop()
            request.timer = loop.call_later(limit, self._check_queued, request, reader)

    async def _attach(self, request: _Request, conversation_id: str, after: int | None) -> None:
        content_type = self._protocol.content_type
        reader = attach_reader(self._state, self._owner, conversation_id, after, content_type)
        self._begin_reading(request, reader)

    def _begin_reading(self, request: _Request, reader: EventReader) -> None:
        request.reader = reader
        request.submitted.set()
        if request.cancelled:
            reader.stream.cancel()

    def _check_queued(self, request: _Request, reader: EventReader) -> None:
        if reader.stream.state == "accepted":
            request.timed_out = True
            reader.stream.cancel()

    async def _deliver(self, request: _Request) -> None:
        reader = request.reader
        assert reader is not None
        n_events = 0
        while True:
            async with self._socket.turn():
                events = reader.read_events()
                finished = reader.finished
                frames = [] if request.timed_out else request.envelope.events(events)
                n_events += len(events)
                if finished:
                    # The client may use the id again as soon as it sees the end.
                    self._leave(request)
                    if request.timed_out:
                        raise QueueTimeoutError
                    if n_events == 0:
                        frames = [self._end_without_events(request, reader)]
                if frames:
                    await self._socket.write(frames)
            if finished:
                return
            if not events:
                await reader.wait()

    def _end_without_events(self, request: _Request, reader: EventReader) -> bytes:
        error = reader.stream.error
        if error is not None and reader.offset == 0:
            raise error
        return request.envelope.end()  # who resumed had everything

    def _leave(self, request: _Request) -> None:
        if self._running.get(request.id) is request:
            del self._running[request.id]
        request.submitted.set()
        if request.timer is not None:
            request.timer.cancel()
        if request.reader is not None:
            request.reader.close()
            request.reader.abandon()

    async def _control(
        self,
        request: _Request | None,
        envelope: Envelope,
        action: str | None,
        members: Mapping[str, bytes],
    ) -> None:
        try:
            completion_id = "-"  # nobody's
            if request is not None:
                await request.submitted.wait()
                if request.reader is not None:
                    completion_id = request.reader.stream.id
            body = join_members({**members, "id": quoted(completion_id)})
            answer = await answer_control(self._state, self._owner, body)
        except PyllamaError as exc:
            answer = _error_object(exc)
        try:
            await self._socket.send(envelope.control(action, answer))
        except SocketClosedError:
            pass
        finally:
            self._n_controls -= 1


def _error_object(exc: Exception) -> bytes:
    return json_bytes({"error": describe_exception(exc).error})
