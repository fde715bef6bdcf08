"""Engines that read images: stand-in models with generated projectors."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import tiny_models
from embedding_calls import body_of
from tiny_models import write_gemma3, write_lfm2, write_llama, write_qwen2vl
from tiny_projectors import write_projector

from pyllama._core import _llama

# A text model, and the projector that it gets.
KINDS = {
    "gemma3": (write_gemma3, "gemma3"),
    "llama": (write_llama, "mlp"),
    "qwen2vl": (write_qwen2vl, "qwen2vl_merger"),
    "lfm2": (write_lfm2, "mlp"),
}

Maker = Callable[..., _llama.Engine]


def write_talking(write: Callable[[Path], None], path: Path) -> None:
    """Write a model that has the characters of templates and of what stands around images."""
    letters = tiny_models._LETTERS + "\n"
    with patch.multiple(tiny_models, N_VOCAB=128, _LETTERS=letters):
        write(path)


@contextmanager
def engine_maker(folder: Path) -> Iterator[Maker]:
    """Make an engine of one of the kinds, with more flags; all are closed at the end."""
    cores: list[_llama.Engine] = []

    def make(kind: str, *flags: str) -> _llama.Engine:
        write, projector = KINDS[kind]
        model = folder / f"{kind}.gguf"
        eyes = folder / f"{projector}.mmproj"
        if not model.exists():
            write_talking(write, model)
        if not eyes.exists():
            write_projector(eyes, projector)
        argv = ["--model", str(model), "--mmproj", str(eyes), "--threads", "1", "--ctx-size", "512"]
        core = _llama.Engine(_llama.ServerParams([*argv, "--parallel", "2", *flags]))
        cores.append(core)
        return core

    yield make
    for core in cores:
        core.close()


def marker(core: _llama.Engine) -> str:
    text: str = core.props()["media_marker"]
    return text


def encoded(image: bytes) -> str:
    return base64.b64encode(image).decode()


def complete(core: _llama.Engine, text: str, *images: bytes, **fields: Any) -> Any:
    """Complete a text, in which ``@`` stands for an image."""
    prompt: Any = {
        "prompt_string": text.replace("@", marker(core)),
        "multimodal_data": [encoded(image) for image in images],
    }
    body = {"prompt": prompt, "n_predict": 12, "temperature": 0, "return_tokens": True, "ignore_eos": True}
    return body_of(core, core.prepare_completion(json.dumps({**body, **fields}).encode(), "native"))


def url(image: bytes) -> str:
    return "data:image/png;base64," + encoded(image)
