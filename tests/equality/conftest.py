from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyllama._core import _llama

# The tiny models are those of the low-level tests.
sys.path[:0] = [str(Path(__file__).parents[1] / "core"), str(Path(__file__).parent)]

KINDS = ("llama", "gemma3", "mamba", "lfm2")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """The stand-in's architecture: each of KINDS."""
    return str(request.param)


@pytest.fixture
def path(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in's file."""
    pytest.importorskip("gguf", reason="gguf writes the models: pip install gguf")
    import stand_ins

    path = tmp_path_factory.mktemp("models") / f"{kind}.gguf"
    stand_ins.KINDS[kind](path)
    return path


@pytest.fixture
def start(path: Path) -> Iterator[Callable[..., _llama.Engine]]:
    """Start engines on the stand-in: one thread, two slots, and the flags of the call."""
    engines: list[_llama.Engine] = []

    def start(*flags: str) -> _llama.Engine:
        always = ["--model", str(path), *"--threads 1 --ubatch-size 16 --parallel 2".split()]
        engines.append(_llama.Engine(_llama.ServerParams([*always, *flags])))
        return engines[-1]

    yield start
    for engine in engines:
        engine.close()
