"""The engine in process: no HTTP, the same core.

async with pyllama.Engine(model="model.gguf", n_ctx=4096) as engine:
    stream = await engine.chat([{"role": "user", "content": "What is 17 + 25?"}])
    async for delta in stream:
        print(delta.reasoning, delta.content)
"""

from __future__ import annotations

import asyncio
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pyllama.errors import ClosedError
from pyllama.loop import LoopNotifier, StreamReader
from pyllama.stream import Stream

if TYPE_CHECKING:
    from pyllama._core import _llama

__all__ = ["Engine"]

# llama.cpp's names of the fields whose flags are spelled otherwise.
_FLAGS = {
    "n_ctx": "--ctx-size",
    "n_batch": "--batch-size",
    "n_ubatch": "--ubatch-size",
    "n_parallel": "--parallel",
    "n_threads": "--threads",
    "n_threads_batch": "--threads-batch",
    "n_predict": "--n-predict",
}


class Engine:
    """A loaded model with its slots. Use it as an async context manager, on one event loop.

    Args:
        model: Path of a GGUF file; None takes the bundled demo model.
        flags: llama-server's flags as keywords: ``n_gpu_layers=99`` is ``--n-gpu-layers 99``, ``True`` and
            ``False`` are ``--flag`` and ``--no-flag``, None leaves what a LLAMA_ARG_* variable or the default
            says.

    Raises:
        InvalidRequestError: A flag is unknown or its value is bad.
    """

    def __init__(self, model: str | os.PathLike[str] | None = None, **flags: Any) -> None:
        from pyllama._core import _llama

        if model is None:
            from pyllama.models import demo_model_path

            model = demo_model_path()
        self._params = _llama.ServerParams(["--model", os.fspath(model), *_to_argv(flags)])
        self._core: _llama.Engine | None = None
        self._notifier: LoopNotifier | None = None

    async def start(self) -> None:
        """Load the model on a worker thread; idempotent.

        Raises:
            ModelLoadError: The file is missing, truncated, or no GGUF.
        """
        if self._core is not None:
            return
        from pyllama._core import _llama

        self._core = await asyncio.to_thread(_llama.Engine, self._params)
        self._notifier = LoopNotifier(_llama.Waker())

    async def aclose(self) -> None:
        """End every running request, join the threads and free the memory; idempotent."""
        core, self._core = self._core, None
        notifier, self._notifier = self._notifier, None
        if core is not None:
            await asyncio.to_thread(core.close)
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

    def __del__(self) -> None:
        if getattr(self, "_core", None) is not None:
            warnings.warn(
                "an Engine was dropped without aclose()", ResourceWarning, stacklevel=2, source=self
            )

    async def chat(self, messages: Sequence[Mapping[str, Any]], **options: Any) -> Stream:
        """Start a chat completion and return its stream.

        Args:
            messages: As in OpenAI's API: ``[{"role": "user", "content": "..."}]``.
            options: The other fields of OpenAI's and llama-server's request, such as ``max_tokens``,
                ``temperature``, ``tools``, ``response_format``, ``seed``, ``stop``, ``logprobs``.

        Raises:
            InvalidRequestError: A field is wrong; ``param`` names it.
            ContextLengthError: The prompt does not fit.
            EngineBusyError: The queue is full.
            ClosedError: The engine is not running.
        """
        core, notifier = self._running()
        fields = {name: value for name, value in options.items() if value is not None}
        body = json.dumps({**fields, "messages": list(messages), "stream": True}).encode()
        prepared = await asyncio.to_thread(core.prepare_chat, body, "deltas")
        n_prompt_tokens = prepared.n_prompt_tokens
        watch = notifier.watch()
        try:
            stream = core.submit(prepared, notifier.waker, watch.key)
        except BaseException:
            notifier.forget(watch)
            raise
        return Stream(StreamReader(stream, notifier, watch), n_prompt_tokens)

    def props(self) -> dict[str, Any]:
        """Return what the model and the server's defaults are, as in ``GET /props``."""
        return self._running()[0].props()

    def metrics(self) -> dict[str, float]:
        """Return the engine's counters; times are in seconds."""
        return self._running()[0].metrics()

    async def slots(self) -> list[dict[str, Any]]:
        """Return what each slot is doing; waits for the step that is running."""
        return await asyncio.to_thread(self._running()[0].slots)

    def _running(self) -> tuple[_llama.Engine, LoopNotifier]:
        if self._core is None or self._notifier is None:
            raise ClosedError("the engine is not running: use `async with Engine(...)`")
        return self._core, self._notifier


def _to_argv(flags: Mapping[str, Any]) -> list[str]:
    argv: list[str] = []
    for name, value in flags.items():
        flag = _FLAGS.get(name, "--" + name.replace("_", "-"))
        if value is True:
            argv.append(flag)
        elif value is False:
            argv.append("--no-" + flag.removeprefix("--"))
        elif isinstance(value, (list, tuple)):
            argv += [flag, ",".join(str(item) for item in value)]
        elif value is not None:
            argv += [flag, os.fspath(value) if isinstance(value, os.PathLike) else str(value)]
    return argv
