"""llama.cpp's log as Python log records.

Without install(), warnings and errors of llama.cpp go to stderr. Errors that explain an exception are in its
message and nowhere else. To hear nothing at all: ``install()`` and
``logging.getLogger("pyllama").addHandler(logging.NullHandler())``.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import traceback

from pyllama._core import _llama

__all__ = ["install", "uninstall"]

_LEVELS = {1: logging.DEBUG, 2: logging.INFO, 3: logging.WARNING, 4: logging.ERROR}
_NAMES = {logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warning", logging.ERROR: "error"}

_lock = threading.Lock()
_thread: threading.Thread | None = None
_pid = 0  # of the process that has the thread: a fork leaves it behind


def install(level: int = logging.WARNING, logger: str = "pyllama") -> None:
    """Send llama.cpp's log lines of at least ``level`` to the logger called ``logger``.

    A daemon thread hands them over, so the threads that compute never wait for Python. Calling it again
    changes level and logger. ``level`` is DEBUG, INFO, WARNING or ERROR; anything else raises ValueError.
    """
    global _thread, _pid
    if level not in _NAMES:
        raise ValueError(f"level={level!r} must be one of {sorted(_NAMES)}")
    uninstall()
    with _lock:
        _llama.attach_log(_NAMES[level])
        _thread = threading.Thread(
            target=_drain, args=(logging.getLogger(logger),), name="pyllama-log", daemon=True
        )
        _thread.start()
        _pid = os.getpid()


def uninstall() -> None:
    """Deliver what is waiting, end the thread and let warnings go to stderr again. Idempotent."""
    global _thread
    with _lock:
        if _thread is None or _pid != os.getpid():
            return
        _llama.detach_log()
        _thread.join()
        _thread = None


def _drain(logger: logging.Logger) -> None:
    while (line := _llama.read_log()) is not None:
        level, text = line
        try:
            logger.log(_LEVELS.get(level, logging.INFO), "%s", text)
        except Exception:  # a filter's: the lines after this one are to arrive
            traceback.print_exc(file=sys.stderr)


# A thread that waits in C++ must end before the interpreter does.
atexit.register(uninstall)
