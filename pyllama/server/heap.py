"""What the process keeps of memory that it has freed."""

from __future__ import annotations

import ctypes
import os

__all__ = ["keep_little_free"]

# mallopt's number of each limit of glibc's, the name that the environment gives it, and its value here.
# Blocks from 4 MiB on go back when they are freed (the engine takes none so large for a token), and each
# arena, of which threads have several, keeps 8 MiB free at its end.
_LIMITS = ((-3, "mmap_threshold", 4 << 20), (-1, "trim_threshold", 8 << 20))


def keep_little_free() -> None:
    """Have glibc hand back what a large request took.

    Left alone, it raises both limits as large blocks are freed: up to 64 MiB in each arena stay with a server
    that has read one prompt of 20 MB. A limit that the environment sets is an operator's; other C libraries
    have none.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    for number, name, value in _LIMITS:
        if f"MALLOC_{name.upper()}_" not in os.environ and f"glibc.malloc.{name}=" not in tunables:
            mallopt(number, value)
