"""A core engine from the start of its load to its end, whatever happens in between.

    loading --ready--> running --close()--> closed
       \\--stop(), or the load fails--> closed

The load runs on a thread of its own, so that a person who presses Ctrl-C, or an event loop that cancels,
waits for nothing. What is still there when the interpreter exits is closed then: the threads of llama.cpp
must not outlive the libraries they run in.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from typing import TYPE_CHECKING

from pyllama.errors import ClosedError

if TYPE_CHECKING:
    from pyllama._core import _llama

__all__ = ["EngineHandle", "hold_daemon_at_exit"]


class EngineHandle:
    """Loads a core engine, from start() on, and owns it. Every method may be called from any thread."""

    def __init__(self, params: _llama.ServerParams) -> None:
        from pyllama._core import _llama

        self._core: _llama.Engine | None = None
        self._error: BaseException | None = None
        self._pid = os.getpid()
        self._loaded = threading.Event()
        self._closing = threading.Lock()
        self._progress = _llama.LoadProgress()
        # A daemon: the interpreter would wait for another one before it calls what is registered below.
        self._thread = threading.Thread(
            target=self._load, args=(_llama.Engine, params), name="pyllama-load", daemon=True
        )
        _open_handles.add(self)

    def start(self) -> None:
        """Begin the load; once. Call it where an exception, such as KeyboardInterrupt, leads to stop()."""
        self._thread.start()

    @property
    def progress(self) -> float:
        """Share of the weights that is loaded, from 0 to 1."""
        return self._progress.value

    @property
    def closed(self) -> bool:
        """Whether the engine ended, or belongs to the process that this one was forked from."""
        return self._pid != os.getpid() or (self._loaded.is_set() and self._core is None)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the load's end, for at most ``timeout`` seconds; return whether it has ended."""
        return self._loaded.wait(timeout)

    def core(self) -> _llama.Engine:
        """Return the loaded engine.

        Raises:
            ModelLoadError: The load failed.
            ClosedError: It is closed, not loaded yet, or another process's.
        """
        if self._error is not None:
            raise self._error
        core = self._core
        if core is None or self._pid != os.getpid():
            raise ClosedError("the engine is not running")
        return core

    def stop(self) -> None:
        """Let a running load fail at its next tensor, without waiting for that."""
        self._progress.stop()

    def close(self) -> None:
        """Stop the load, end every request, join the threads and free the memory; idempotent."""
        if self._pid != os.getpid():
            return
        self.stop()
        if self._thread.ident is not None:
            self._thread.join()
        with self._closing:
            core, self._core = self._core, None
            if core is not None:
                core.close()

    def _load(self, make: type[_llama.Engine], params: _llama.ServerParams) -> None:
        try:
            self._core = make(params, self._progress)
        except BaseException as exc:
            self._error = exc
        finally:
            self._loaded.set()


_open_handles: weakref.WeakSet[EngineHandle] = weakref.WeakSet()
_exiting = threading.Event()


def hold_daemon_at_exit() -> None:
    """Never return where a daemon thread would otherwise learn that the interpreter's exit closed its engine.

    Python freezes these threads a moment later; an exception would only print a traceback.
    """
    if _exiting.is_set() and threading.current_thread().daemon:
        threading.Event().wait()


@atexit.register
def _close_all() -> None:
    _exiting.set()
    for handle in list(_open_handles):
        handle.close()
