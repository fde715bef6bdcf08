"""What the asynchronous and the synchronous engine share: flags, requests and introspection."""

from __future__ import annotations

import json
import os
import shlex
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from pyllama.embeddings import embeddings_body, rerank_body, to_json
from pyllama.errors import ClosedError
from pyllama.loading import EngineHandle

if TYPE_CHECKING:
    from pyllama._core import _llama

__all__ = ["EngineBase", "to_argv"]

Preparation: TypeAlias = "Callable[[], _llama.Prepared]"

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


class EngineBase:
    """The flags of an engine and, once it is loaded, its core."""

    _params: _llama.ServerParams
    _progress: Callable[[float], object] | None = None
    _handle: EngineHandle | None = None

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        progress: Callable[[float], object] | None = None,
        **flags: Any,
    ) -> None:
        if model is None:
            from pyllama.models import demo_model_path

            model = demo_model_path()
        self._set_flags(["--model", os.fspath(model), *to_argv(flags)])
        self._progress = progress

    @classmethod
    def from_flags(
        cls, flags: str | Sequence[str], *, progress: Callable[[float], object] | None = None
    ) -> Self:
        """Make an engine from llama-server's flags: ``Engine.from_flags("-m model.gguf -np 4")``.

        Text is split as a shell would; without ``-m`` it is the bundled demo model. A model that ``-hf`` or
        ``-mu`` names is downloaded here, unless it is in the cache; that takes its time, told on stderr.

        Raises:
            InvalidRequestError: A flag is unknown or its value is bad.
            ModelLoadError: A model cannot be downloaded.
        """
        self = cls.__new__(cls)
        self._set_flags(shlex.split(flags) if isinstance(flags, str) else list(flags))
        self._progress = progress
        return self

    def _set_flags(self, argv: list[str]) -> None:
        from pyllama._core import _llama

        self._params = _llama.ServerParams(argv)
        known = self._params.as_dict()
        remote = bool(known["hf_repo"] or known["model_url"])
        if remote or known["mmproj_url"]:
            from pyllama.hub import fetch_model, fetch_projector

            path = fetch_model(known)
            if path is not None:
                self._params.set_model_path(path)
            projector = fetch_projector(known, path)
            if projector is not None:
                self._params.set_projector_path(projector)
        if not remote and not known["model_path"] and not known["model_source"]:
            from pyllama.models import demo_model_path

            self._params.set_model_path(demo_model_path())

    def __del__(self) -> None:
        if self._handle is not None and not self._handle.closed:
            warnings.warn(
                f"an {type(self).__name__} was dropped without being closed",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )

    @property
    def n_ctx(self) -> int:
        """Most tokens of one request, prompt and answer together."""
        return self._running().n_ctx_slot

    @property
    def n_slots(self) -> int:
        """Requests that run at the same time; more wait in the queue."""
        return self._running().n_slots

    def props(self) -> dict[str, Any]:
        """Return what the model and the server's defaults are, as in ``GET /props``."""
        return self._running().props()

    def metrics(self) -> dict[str, float]:
        """Return the engine's counters; times are in seconds."""
        return self._running().metrics()

    # What a request asks of the core. The body is made at once; the call takes time, and is for any thread.

    def _chat(self, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> Preparation:
        core, body = self._running(), to_json({**options, "messages": list(messages), "stream": True})
        return lambda: core.prepare_chat(body, "deltas")

    def _completion(self, prompt: str | Sequence[int], options: Mapping[str, Any]) -> Preparation:
        value = prompt if isinstance(prompt, str) else list(prompt)
        core, body = self._running(), to_json({**options, "prompt": value, "stream": True})
        return lambda: core.prepare_completion(body, "deltas")

    def _embeddings(self, inputs: Sequence[str | Sequence[int]], options: Mapping[str, Any]) -> Preparation:
        core, body = self._running(), embeddings_body(inputs, options)
        return lambda: core.prepare_embeddings(body)

    def _rerank(self, query: str, documents: Sequence[str], options: Mapping[str, Any]) -> Preparation:
        core, body = self._running(), rerank_body(query, documents, options)
        return lambda: core.prepare_rerank(body)

    def _tokenize(self, text: str, add_special: bool, parse_special: bool) -> Callable[[], list[int]]:
        core = self._running()
        return lambda: core.tokenize(text, add_special, parse_special)

    def _detokenize(self, tokens: Iterable[int]) -> Callable[[], str]:
        core, ids = self._running(), list(tokens)
        return lambda: core.detokenize(ids)

    def _apply_template(
        self, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]
    ) -> Callable[[], str]:
        core, body = self._running(), to_json({**options, "messages": list(messages)})
        return lambda: str(json.loads(core.answer_text("apply_template", body))["prompt"])

    def _running(self) -> _llama.Engine:
        if self._handle is None:
            raise ClosedError(f"the engine is not running: use it in `with {type(self).__name__}(...)`")
        return self._handle.core()


def to_argv(flags: Mapping[str, Any]) -> list[str]:
    """Return keywords as llama-server's flags."""
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
