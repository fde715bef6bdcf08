"""The engine in process: no HTTP, the same core.

async with pyllama.Engine(model="model.gguf", n_ctx=4096) as engine:
    stream = await engine.chat([{"role": "user", "content": "What is 17 + 25?"}])
    async for delta in stream:
        print(delta.reasoning, delta.content)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pyllama.embeddings import Embeddings, Ranked, parse_embeddings, parse_ranks
from pyllama.engine_base import EngineBase
from pyllama.errors import ClosedError, EngineError
from pyllama.loading import EngineHandle
from pyllama.loop import LoopNotifier, StreamReader
from pyllama.stream import Stream

if TYPE_CHECKING:
    from pyllama._core import _llama

__all__ = ["Engine"]

_Result = TypeVar("_Result")

# Seconds between two looks at a load.
_LOAD_POLL = 0.02


class Engine(EngineBase):
    """A loaded model with its slots. Use it as an async context manager, on one asyncio or trio loop.

    Any number of streams run at once; those that find no free slot wait in the queue.

    Args:
        model: Path of a GGUF file; None takes the bundled demo model.
        progress: Called on the loop with a value from 0 to 1 while the model loads.
        flags: llama-server's flags as keywords: ``n_gpu_layers=99`` is ``--n-gpu-layers 99``, ``True`` and
            ``False`` are ``--flag`` and ``--no-flag``, None leaves what a LLAMA_ARG_* variable or the default
            says.

    Raises:
        InvalidRequestError: A flag is unknown or its value is bad.
    """

    _notifier: LoopNotifier | None = None

    async def start(self) -> None:
        """Load the model on a worker thread; idempotent. Cancelling it stops the load.

        Raises:
            ModelLoadError: The file is missing, truncated, or no GGUF.
        """
        import anyio

        if self._handle is not None:
            return
        handle = EngineHandle(self._params)
        try:
            handle.start()
            while not handle.wait(0):
                if self._progress is not None:
                    self._progress(handle.progress)
                await anyio.sleep(_LOAD_POLL)
            handle.core()
        except BaseException:
            handle.stop()  # its thread ends soon, and is waited for at the latest at exit
            raise
        if self._handle is not None:  # another task was faster
            await _in_thread(handle.close)
            return
        self._handle = handle
        self._notifier = _make_notifier()

    async def aclose(self) -> None:
        """End every running request, join the threads and free the memory; idempotent."""
        import anyio

        handle, self._handle = self._handle, None
        notifier, self._notifier = self._notifier, None
        if handle is not None:
            with anyio.CancelScope(shield=True):
                await _in_thread(handle.close)
        if notifier is not None:
            notifier.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def chat(self, messages: Sequence[Mapping[str, Any]], **options: Any) -> Stream:
        """Start a chat completion and return its stream.

        Args:
            messages: As in OpenAI's API: ``[{"role": "user", "content": "..."}]``.
            options: The other fields of OpenAI's and llama-server's request, such as ``max_tokens``,
                ``temperature``, ``tools``, ``response_format``, ``seed``, ``stop``, ``logprobs``. ``n`` asks
                for several choices, at most as many as there are slots; the prompt is computed once, and
                choice k is what ``seed`` + k gives.

        Raises:
            InvalidRequestError: A field is wrong; ``param`` names it.
            ContextLengthError: The prompt does not fit.
            EngineBusyError: The queue is full.
            ClosedError: The engine is not running.
        """
        return self._submit(await _in_thread(self._chat(messages, options)))

    async def completion(self, prompt: str | Sequence[int], **options: Any) -> Stream:
        """Start a raw completion, without chat template, and return its stream.

        Args:
            prompt: Text, or token ids.
            options: The other fields of llama-server's ``/completion``, such as ``n_predict``,
                ``temperature``, ``grammar``, ``json_schema``, ``stop``.

        Raises:
            InvalidRequestError, ContextLengthError, EngineBusyError, ClosedError: As for chat().
        """
        return self._submit(await _in_thread(self._completion(prompt, options)))

    async def embeddings(self, inputs: Sequence[str | Sequence[int]], **options: Any) -> Embeddings:
        """Return one vector per text, or list of token ids: float32, shape (n_inputs, n_embd).

        Needs an engine made with ``embeddings=True``, and ``pooling`` where the model names none. Vectors
        have length 1 unless ``embd_normalize`` says otherwise.

        Raises:
            UnsupportedError: The engine was made for other requests.
            InvalidRequestError, ContextLengthError, EngineBusyError, ClosedError: As for chat().
        """
        prepared = await _in_thread(self._embeddings(inputs, options))
        return parse_embeddings(await self._whole(prepared))

    async def rerank(self, query: str, documents: Sequence[str], **options: Any) -> list[Ranked]:
        """Return how well each document answers a query, the best first; ``top_n`` keeps so many.

        Needs an engine made with ``reranking=True``; raises as embeddings().
        """
        prepared = await _in_thread(self._rerank(query, documents, options))
        return parse_ranks(await self._whole(prepared))

    async def tokenize(
        self, text: str, *, add_special: bool = False, parse_special: bool = True
    ) -> list[int]:
        """Return the token ids of a text; ``add_special`` puts the model's own around it."""
        return await _in_thread(self._tokenize(text, add_special, parse_special))

    async def detokenize(self, tokens: Iterable[int]) -> str:
        """Return the text of token ids; bytes that are no whole character become U+FFFD."""
        return await _in_thread(self._detokenize(tokens))

    async def apply_template(self, messages: Sequence[Mapping[str, Any]], **options: Any) -> str:
        """Return the prompt that the model's chat template makes of messages; options as for chat().

        Raises:
            InvalidRequestError: A field is wrong, or the template refuses the messages.
        """
        return await _in_thread(self._apply_template(messages, options))

    async def slots(self) -> list[dict[str, Any]]:
        """Return what each slot is doing; waits for the step that is running."""
        return await _in_thread(self._running().slots)

    def _submit(self, prepared: _llama.Prepared) -> Stream:
        n_prompt_tokens = prepared.n_prompt_tokens
        return Stream(self._read(prepared), n_prompt_tokens)

    async def _whole(self, prepared: _llama.Prepared) -> bytes:
        with _cancelling(self._read(prepared)) as reader:
            answer = b"".join([chunk async for chunk in reader])
            if reader.stream.error is not None:
                raise reader.stream.error
            return answer

    def _read(self, prepared: _llama.Prepared) -> StreamReader:
        core, notifier = self._running(), self._notifier
        if notifier is None:
            raise ClosedError("the engine is not running")
        if not notifier.is_current():
            raise EngineError("the engine belongs to another event loop: make one Engine per loop")
        watch = notifier.watch()
        try:
            stream = core.submit(prepared, notifier.waker, watch.key)
        except BaseException:
            notifier.forget(watch)
            raise
        return StreamReader(stream, notifier, watch)


@contextmanager
def _cancelling(reader: StreamReader) -> Iterator[StreamReader]:
    try:
        yield reader
    except BaseException:
        reader.stream.cancel()
        raise
    finally:
        reader.close()


async def _in_thread(call: Callable[[], _Result]) -> _Result:
    import anyio.to_thread

    return await anyio.to_thread.run_sync(call)


def _make_notifier() -> LoopNotifier:
    from pyllama._core import _llama
    from pyllama.trio_loop import TrioNotifier, in_trio

    return TrioNotifier(_llama.Waker()) if in_trio() else LoopNotifier(_llama.Waker())
