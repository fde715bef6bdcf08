"""Tiny models that stand in for each kind of memory, and prompts that begin alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import tiny_models

__all__ = ["FIRST", "HEAD", "KINDS", "SECOND"]

# Attention, a sliding window, recurrent states, and both states and attention.
KINDS: dict[str, Callable[[Path], None]] = {
    "llama": tiny_models.write_llama,
    "gemma3": tiny_models.write_gemma3,
    "mamba": tiny_models.write_mamba,
    "lfm2": tiny_models.write_lfm2,
}
HEAD = [1, *(4 + i % 20 for i in range(80))]
FIRST = [*HEAD, 5, 6, 7, 8, 9]
SECOND = [*HEAD, 9, 8, 7, 6, 5]
