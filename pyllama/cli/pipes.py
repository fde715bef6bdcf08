"""Output that nobody reads any more (``pyllama info | head``) is no error."""

from __future__ import annotations

import os
import sys

__all__ = ["drop_output"]

_BROKEN_PIPE = 141  # as a shell counts SIGPIPE


def drop_output() -> int:
    """Drop what is still buffered, which must not fail again at exit; return the exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return _BROKEN_PIPE
