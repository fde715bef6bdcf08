"""The engine without async, for scripts, notebooks and threads.

with pyllama.SyncEngine("model.gguf", n_ctx=4096) as engine:
    for delta in engine.chat([{"role": "user", "content": "What is 17 + 25?"}]):
        print(delta.content, end="")

No event loop takes part, so it also works in a thread where one runs, as in a notebook.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pyllama.answer import Completion, ControlResult, Delta
from pyllama.deltas import collect, control_request, parse_control
from pyllama.embeddings import Embeddings, Ranked, parse_embeddings, parse_ranks
from pyllama.engine_base import EngineBase
from pyllama.errors import ClosedError
from pyllama.loading import EngineHandle
from pyllama.loop import read_new
from pyllama.stream import StreamBase

if TYPE_CHECKING:
    from pyllama._core import _llama

__all__ = ["SyncEngine", "SyncStream"]

# Seconds between two calls of `progress`.
_PROGRESS_INTERVAL = 0.1
# Poll needs no descriptor of its own and knows no highest number.
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)


class SyncEngine(EngineBase):
    """A loaded model with its slots, for any number of threads. Use it as a context manager.

    Args:
        model: Path of a GGUF file; None takes the bundled demo model.
        progress: Called on the calling thread with a value from 0 to 1 while the model loads.
        flags: llama-server's flags as keywords, as for Engine.

    Raises:
        InvalidRequestError: A flag is unknown or its value is bad.
    """

    def start(self) -> None:
        """Load the model; idempotent. KeyboardInterrupt stops the load.

        Raises:
            ModelLoadError: The file is missing, truncated, or no GGUF.
        """
        if self._handle is not None:
            return
        handle = EngineHandle(self._params)
        try:
            handle.start()
            while not handle.wait(_PROGRESS_INTERVAL):
                if self._progress is not None:
                    self._progress(handle.progress)
            handle.core()
        except BaseException:
            handle.stop()  # its thread ends soon, and is waited for at the latest at exit
            raise
        self._handle = handle

    def close(self) -> None:
        """End every running request, join the threads and free the memory; idempotent."""
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def chat(self, messages: Sequence[Mapping[str, Any]], **options: Any) -> SyncStream:
        """Start a chat completion and return its stream; messages and options as for Engine.chat().

        Raises:
            InvalidRequestError: A field is wrong; ``param`` names it.
            ContextLengthError: The prompt does not fit.
            EngineBusyError: The queue is full.
            ClosedError: The engine is not running.
        """
        return self._submit(self._chat(messages, options)())

    def completion(self, prompt: str | Sequence[int], **options: Any) -> SyncStream:
        """Start a raw completion, without chat template, and return its stream.

        Args:
            prompt: Text, or token ids.
            options: The other fields of llama-server's ``/completion``, such as ``n_predict``,
                ``temperature``, ``grammar``, ``json_schema``, ``stop``.

        Raises:
            InvalidRequestError, ContextLengthError, EngineBusyError, ClosedError: As for chat().
        """
        return self._submit(self._completion(prompt, options)())

    def embeddings(self, inputs: Sequence[str | Sequence[int]], **options: Any) -> Embeddings:
        """Return one vector per text, or list of token ids: float32, shape (n_inputs, n_embd).

        Needs an engine made with ``embeddings=True``, and ``pooling`` where the model names none. Vectors
        have length 1 unless ``embd_normalize`` says otherwise.

        Raises:
            UnsupportedError: The engine was made for other requests.
            InvalidRequestError, ContextLengthError, EngineBusyError, ClosedError: As for chat().
        """
        prepared = self._embeddings(inputs, options)()
        return parse_embeddings(_Reader(self._running(), prepared).whole())

    def rerank(self, query: str, documents: Sequence[str], **options: Any) -> list[Ranked]:
        """Return how well each document answers a query, the best first; ``top_n`` keeps so many.

        Needs an engine made with ``reranking=True``; raises as embeddings().
        """
        prepared = self._rerank(query, documents, options)()
        return parse_ranks(_Reader(self._running(), prepared).whole())

    def tokenize(self, text: str, *, add_special: bool = False, parse_special: bool = True) -> list[int]:
        """Return the token ids of a text; ``add_special`` puts the model's own around it."""
        return self._tokenize(text, add_special, parse_special)()

    def detokenize(self, tokens: Iterable[int]) -> str:
        """Return the text of token ids; bytes that are no whole character become U+FFFD."""
        return self._detokenize(tokens)()

    def apply_template(self, messages: Sequence[Mapping[str, Any]], **options: Any) -> str:
        """Return the prompt that the model's chat template makes of messages; options as for chat().

        Raises:
            InvalidRequestError: A field is wrong, or the template refuses the messages.
        """
        return self._apply_template(messages, options)()

    def slots(self) -> list[dict[str, Any]]:
        """Return what each slot is doing; waits for the step that is running."""
        return self._running().slots()

    def _submit(self, prepared: _llama.Prepared) -> SyncStream:
        n_prompt_tokens = prepared.n_prompt_tokens
        return SyncStream(_Reader(self._running(), prepared), n_prompt_tokens)


class _Reader:
    """The bytes of one stream, for one thread that waits for them."""

    def __init__(self, core: _llama.Engine, prepared: _llama.Prepared) -> None:
        from pyllama._core import _llama

        self._waker = _llama.Waker()
        self._offset = 0
        self.closed: bool = False
        self.finished: bool = False
        self.stream: _llama.Stream = core.submit(prepared, self._waker, 0)

    def fileno(self) -> int:
        return self._waker.fd

    def read(self) -> bytes:
        """Return what is new, perhaps nothing. Never waits."""
        self._waker.drain()  # before the read, so that what comes in between wakes again
        data, self._offset, self.finished = read_new(self.stream, self._offset)
        return data

    def wait(self, timeout: float | None) -> None:
        """Return when there is something to read, or the time is over."""
        _wait_readable(self._waker.fd, timeout)

    def whole(self) -> bytes:
        """Return all of it, and close; leaving early cancels the request."""
        chunks: list[bytes] = []
        try:
            while not self.finished:
                chunks.append(self.read())
                if not self.finished:
                    self.wait(None)
        finally:
            self.close()
        if self.stream.error is not None:
            raise self.stream.error
        return b"".join(chunks)

    def close(self) -> None:
        """Cancel a request that still runs, and end the subscription; idempotent."""
        if not self.closed:
            self.closed = True
            if self.stream.state != "finished":
                self.stream.cancel()
            self.stream.unsubscribe(self._waker, 0)
            self._waker.close()


class SyncStream(StreamBase):
    """The running answer to one request. Iterate it once, or call ``result()``.

    Leaving the ``for`` before the end, by ``break`` or an exception, cancels the request before its next
    token; so does dropping the stream. For one thread at a time, but for cancel().
    """

    def __init__(self, reader: _Reader, n_prompt_tokens: int) -> None:
        super().__init__(reader.stream, n_prompt_tokens)
        self._reader = reader

    def __iter__(self) -> Iterator[Delta]:
        try:
            while self._wait(None):
                yield self._take()
        finally:
            self.close()

    def read(self, timeout: float | None = None) -> list[Delta]:
        """Return what is new since the last call; wait for it, for at most ``timeout`` seconds.

        An empty list means that the time is over, or that the answer has ended (``finished`` tells). For
        loops of one's own: fileno() becomes readable when there is something.

        Raises:
            PyllamaError: The request failed.
        """
        self._wait(timeout)
        return [self._take() for _ in range(len(self._new))]

    @property
    def finished(self) -> bool:
        """Whether everything was read, or the stream is closed."""
        return self._reader.closed or (self._reader.finished and not self._new)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when read() has something.

        Raises:
            ClosedError: The stream is closed.
        """
        if self._reader.closed:
            raise ClosedError("the stream is closed")
        return self._reader.fileno()

    def result(self) -> Completion:
        """Return the whole answer: wait for what is missing, and put it together with what was iterated.

        Raises:
            PyllamaError: The request failed.
        """
        while self._wait(None):
            self._take()
        return collect(self.id, self._seen)

    def control(self, action: str, **fields: Any) -> ControlResult:
        """Steer the request while it runs, as Stream.control does; any thread may call it."""
        from pyllama._core import _llama

        waker = _llama.Waker()
        try:
            ticket = self._stream.control(control_request(action, fields), waker, 0)
            while not (answer := ticket.answer()):
                _wait_readable(waker.fd, None)
                waker.drain()
            return parse_control(answer)
        finally:
            waker.close()

    def inject(self, text: str, **fields: Any) -> ControlResult:
        """Put text into the answer before its next token, as Stream.inject does."""
        return self.control("inject", text=text, **fields)

    def close(self) -> None:
        """Cancel the request if it still runs, and let go of the stream; idempotent."""
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_reader"):
            self.close()

    def _wait(self, timeout: float | None) -> bool:
        reader = self._reader
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            while not self._new and not reader.finished and not reader.closed:
                self._add(reader.read())
                if not self._new and not reader.finished:
                    left = None if deadline is None else deadline - time.monotonic()
                    if left is not None and left <= 0:
                        return False
                    reader.wait(left)
            if not self._new and not reader.closed:
                self._raise_error()
        except BaseException:
            self.close()
            raise
        return bool(self._new)


def _wait_readable(fd: int, timeout: float | None) -> None:
    with _Selector() as selector:  # a signal handler that raises, as for Ctrl-C, ends the wait
        selector.register(fd, selectors.EVENT_READ)
        selector.select(timeout)
