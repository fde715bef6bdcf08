"""What the low-level API answers with, where a number or an array is not enough."""

from __future__ import annotations

import enum
from typing import NamedTuple


class TokenAttr(enum.IntFlag):
    """What a vocabulary says of a token, from ``Vocab.attr``; a token can have several of them."""

    UNKNOWN = 1 << 0
    UNUSED = 1 << 1
    NORMAL = 1 << 2
    CONTROL = 1 << 3
    USER_DEFINED = 1 << 4
    BYTE = 1 << 5
    NORMALIZED = 1 << 6
    LSTRIP = 1 << 7
    RSTRIP = 1 << 8
    SINGLE_WORD = 1 << 9


class ContextPerf(NamedTuple):
    """Times in milliseconds and token counts of a context, from ``Context.perf``.

    Calls of several tokens count as prompt, calls of one token as decode. llama.cpp counts at least one of
    either.
    """

    load_ms: float
    prompt_ms: float
    decode_ms: float
    n_prompt: int
    n_decode: int
    n_reused: int


class SamplerPerf(NamedTuple):
    """The time in milliseconds and the tokens of a sampler chain, from ``SamplerChain.perf``."""

    sample_ms: float
    n_sample: int
