"""What the routes share: the engine, how ready it is, and how many requests are running."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakValueDictionary

import anyio

from pyllama.errors import EngineUnavailableError, MediaUrlError
from pyllama.loop import LoopNotifier, StreamReader
from pyllama.server.auth import Priorities
from pyllama.server.conversation import check_id
from pyllama.server.media import MOST_URLS, MediaFetcher
from pyllama.server.pool import CallPool
from pyllama.server.session import Session
from pyllama.server.sessions import Sessions

if TYPE_CHECKING:
    from pyllama._core import _llama
    from pyllama.server.settings import Settings

__all__ = ["ServerState"]

_Result = TypeVar("_Result")


class ServerState:
    """One server's state. Made and used on its event loop; ``attach`` makes it ready."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.started_at: float = time.time()
        self.unready_message: str = "Loading model"
        self._engine: _llama.Engine | None = None
        self._notifier: LoopNotifier | None = None
        self._calls = CallPool(settings.prepare_threads)
        self._media = MediaFetcher(settings.media_urls)
        self._n_running = 0
        self._idle = asyncio.Event()
        self._sessions: Sessions | None = None
        self._priorities = Priorities(settings.key_priorities)
        # By owner and id, for as long as somebody reads them, or their sessions are there.
        self._completions: WeakValueDictionary[tuple[bytes, str], StreamReader | Session] = (
            WeakValueDictionary()
        )
        self._idle.set()
        self._draining = False
        self._on_drain: list[Callable[[], None]] = []
        # Large controls are parsed one at a time.
        self.control_limiter = anyio.CapacityLimiter(1)

    @property
    def ready(self) -> bool:
        """Whether requests are let in."""
        return self._engine is not None and not self._draining

    @property
    def engine(self) -> _llama.Engine:
        """The engine; raises EngineUnavailableError while there is none."""
        if self._engine is None:
            raise EngineUnavailableError(self.unready_message)
        return self._engine

    @property
    def sessions(self) -> Sessions:
        """The sessions; raises EngineUnavailableError while there is no engine."""
        if self._sessions is None:
            raise EngineUnavailableError(self.unready_message)
        return self._sessions

    def attach(self, engine: _llama.Engine, waker: _llama.Waker) -> None:
        """Open the server to requests."""
        self._notifier = LoopNotifier(waker)
        self._sessions = Sessions(
            self._notifier,
            retention=self.settings.stream_retention,
            max_streams=self.settings.max_streams,
        )
        self._engine = engine

    def drain(self) -> None:
        """Refuse new requests with 503; running ones go on."""
        self._draining = True
        self.unready_message = "the server is shutting down"
        for callback in self._on_drain:
            callback()

    def on_drain(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called by drain(): for those who hold connections open without a request."""
        self._on_drain.append(callback)

    async def wait_idle(self) -> None:
        """Return when no request is running."""
        await self._idle.wait()

    def detach(self) -> None:
        """Give up the notifier; idempotent. The engine is the caller's to close."""
        if self._sessions is not None:
            self._sessions.close()
            self._sessions = None
        if self._notifier is not None:
            self._notifier.close()
            self._notifier = None
        self._engine = None
        self._calls.close()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count a request as running for as long as the block lasts."""
        self._n_running += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._n_running -= 1
            if self._n_running == 0:
                self._idle.set()

    async def prepare_chat(self, body: bytes, dialect: str = "openai") -> _llama.Prepared:
        """Turn the JSON of a chat request into a prepared one, on a worker thread."""
        return await self._with_media(self.engine.prepare_chat, body, dialect)

    async def prepare_completion(self, body: bytes, dialect: str) -> _llama.Prepared:
        """Turn the JSON of a raw completion into a prepared request, on a worker thread."""
        return await self._with_media(self.engine.prepare_completion, body, dialect)

    async def prepare_infill(self, body: bytes) -> _llama.Prepared:
        """Turn the JSON of a fill-in-the-middle request into a prepared one, on a worker thread."""
        return await self._calls.run(self.engine.prepare_infill, body)

    async def prepare_embeddings(self, body: bytes, dialect: str) -> _llama.Prepared:
        """Turn the JSON of a request for embeddings into a prepared one, on a worker thread."""
        return await self._with_media(self.engine.prepare_embeddings, body, dialect)

    async def prepare_rerank(self, body: bytes) -> _llama.Prepared:
        """Turn the JSON of a rerank request into a prepared one, on a worker thread."""
        return await self._calls.run(self.engine.prepare_rerank, body)

    async def prepare_decision(self, body: bytes) -> _llama.Prepared:
        """Turn the JSON of a decision request into a prepared one, on a worker thread."""
        return await self._calls.run(self.engine.prepare_decision, body)

    async def answer_text(self, kind: str, body: bytes) -> bytes:
        """Answer a request that needs no slot, on a worker thread."""
        call = self.engine.answer_text
        return await self._with_media(lambda body: call(kind, body), body)

    async def _with_media(self, call: Callable[..., _Result], body: bytes, *rest: str) -> _Result:
        """Call on a worker thread, and again with an image in the body while it names one by its URL."""
        for _ in range(MOST_URLS):
            try:
                return await self._calls.run(call, body, *rest)
            except MediaUrlError as error:
                if not self._media.enabled or error.param is None:
                    raise
                body = await self._media.fill_in(body, error.param)
        return await self._calls.run(call, body, *rest)

    def metrics(self) -> dict[str, float]:
        """Return the engine's counters and the sessions', by name."""
        engine, sessions = self.engine.metrics(), self.sessions.metrics()
        sessions["session_evictions"] += engine.get("stream_evictions", 0)
        return {**engine, **sessions}

    def submit(self, prepared: _llama.Prepared, owner: bytes = b"") -> StreamReader:
        """Queue a prepared request of an owner (see ``ApiKeys.owner``) and return the reader of its body."""
        engine = self.engine
        if self._notifier is None:
            raise EngineUnavailableError(self.unready_message)
        watch = self._notifier.watch()
        try:
            stream = engine.submit(
                prepared, self._notifier.waker, watch.key, owner, self._priorities.of(owner)
            )
        except BaseException:
            self._notifier.forget(watch)
            raise
        reader = StreamReader(stream, self._notifier, watch)
        self._completions[owner, stream.id] = reader
        return reader

    def open_session(self, prepared: _llama.Prepared, owner: bytes, conversation_id: str) -> Session:
        """Queue a prepared request whose stream is its conversation's; a live one of it is cancelled.

        Raises:
            InvalidRequestError: The id is too long.
            EngineBusyError: There are too many conversations, or requests, already.
        """
        check_id(conversation_id)
        self.sessions.check_room(owner, conversation_id)
        receipt = prepared.receipt
        stream = self.engine.submit(prepared, owner=owner, priority=self._priorities.of(owner))
        try:
            session = self.sessions.open(owner, conversation_id, stream)
        except BaseException:
            stream.cancel()
            raise
        session.receipt = receipt
        self._completions[owner, stream.id] = session
        return session

    def completion(self, owner: bytes, completion_id: str) -> StreamReader | Session | None:
        """Return what controls a running completion, None when this owner has none of that id."""
        found = self._completions.get((owner, completion_id))
        return None if isinstance(found, Session) and found.ended else found

    def kept_completion(self, owner: bytes, completion_id: str) -> Session | None:
        """Return the session of an owner's completion, running or kept; None when there is none."""
        found = self._completions.get((owner, completion_id))
        if isinstance(found, Session) and self.sessions.get(owner, found.conversation_id) is found:
            return found
        return None
