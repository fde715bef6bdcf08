"""llama.cpp from Python.

The low-level API (Model, Context, Batch, ...) follows llama.h; Engine runs many requests at once. Names are
loaded when they are first used, so that ``import pyllama`` stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyllama import errors, logging, models, samplers
    from pyllama._core._llama import (
        Batch,
        Context,
        LogitsView,
        LoraAdapter,
        Memory,
        Model,
        SamplerChain,
        ThreadPool,
        Vocab,
        build_info,
    )
    from pyllama.answer import (
        Choice,
        Completion,
        ControlResult,
        Delta,
        Prefill,
        Timings,
        TokenLogprob,
        ToolCall,
        ToolCallDelta,
        Usage,
    )
    from pyllama.embeddings import Ranked
    from pyllama.engine import Engine
    from pyllama.errors import (
        ClosedError,
        ContextFullError,
        ContextLengthError,
        DecodeCancelledError,
        EngineBusyError,
        EngineError,
        EngineUnavailableError,
        InvalidRequestError,
        MediaUrlError,
        ModelLoadError,
        NotFoundError,
        PyllamaError,
        UnsupportedError,
    )
    from pyllama.quantization import quantize
    from pyllama.records import ContextPerf, SamplerPerf, TokenAttr
    from pyllama.samplers import Candidates, Sampler
    from pyllama.stream import Stream
    from pyllama.sync import SyncEngine, SyncStream

__all__ = [
    "Batch",
    "Candidates",
    "Choice",
    "ClosedError",
    "Completion",
    "Context",
    "ContextFullError",
    "ContextLengthError",
    "ContextPerf",
    "ControlResult",
    "DecodeCancelledError",
    "Delta",
    "Engine",
    "EngineBusyError",
    "EngineError",
    "EngineUnavailableError",
    "InvalidRequestError",
    "LogitsView",
    "LoraAdapter",
    "MediaUrlError",
    "Memory",
    "Model",
    "ModelLoadError",
    "NotFoundError",
    "Prefill",
    "PyllamaError",
    "Ranked",
    "Sampler",
    "SamplerChain",
    "SamplerPerf",
    "Stream",
    "SyncEngine",
    "SyncStream",
    "ThreadPool",
    "Timings",
    "TokenAttr",
    "TokenLogprob",
    "ToolCall",
    "ToolCallDelta",
    "UnsupportedError",
    "Usage",
    "Vocab",
    "build_info",
    "errors",
    "logging",
    "models",
    "quantize",
    "samplers",
]

_CORE = "pyllama._core._llama"
_SUBMODULES = ("errors", "logging", "models", "samplers")
_SOURCES = {
    "Batch": _CORE,
    "Candidates": "pyllama.samplers",
    "Choice": "pyllama.answer",
    "Completion": "pyllama.answer",
    "Context": _CORE,
    "ContextPerf": "pyllama.records",
    "ControlResult": "pyllama.answer",
    "Delta": "pyllama.answer",
    "Engine": "pyllama.engine",
    "LogitsView": _CORE,
    "LoraAdapter": _CORE,
    "Memory": _CORE,
    "Model": _CORE,
    "Prefill": "pyllama.answer",
    "Ranked": "pyllama.embeddings",
    "Sampler": "pyllama.samplers",
    "SamplerChain": _CORE,
    "SamplerPerf": "pyllama.records",
    "Stream": "pyllama.stream",
    "SyncEngine": "pyllama.sync",
    "SyncStream": "pyllama.sync",
    "ThreadPool": _CORE,
    "Timings": "pyllama.answer",
    "TokenAttr": "pyllama.records",
    "TokenLogprob": "pyllama.answer",
    "ToolCall": "pyllama.answer",
    "ToolCallDelta": "pyllama.answer",
    "Usage": "pyllama.answer",
    "Vocab": _CORE,
    "build_info": _CORE,
    "quantize": "pyllama.quantization",
}


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"pyllama.{name}")
    if name in __all__:
        value = getattr(importlib.import_module(_SOURCES.get(name, "pyllama.errors")), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'pyllama' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
