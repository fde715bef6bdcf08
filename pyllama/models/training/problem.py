"""What a task is made of: a question, the thinking that leads to the answer, and the answer."""

from __future__ import annotations

import zlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One question with its thinking and its short answer.

    `key` names the problem apart from its wording; problems without one are never held out.
    """

    kind: str
    prompt: str
    thinking: str
    answer: str
    key: str = ""

    @property
    def held_out(self) -> bool:
        """Tell whether the problem is kept for evaluation (one key in 16)."""
        return bool(self.key) and zlib.crc32(self.key.encode()) % 16 == 0
