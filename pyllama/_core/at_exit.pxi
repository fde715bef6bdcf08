# The interpreter's exit while daemon threads are inside llama.cpp. It would take the libraries away under them, so it
# stops what can be stopped and waits for the rest; a thread that comes back then goes no further. Python has already
# waited for all other threads.

import atexit as _atexit
import threading as _threading
import time as _time

from libcpp cimport bool as cbool
from libcpp.atomic cimport atomic

cdef int _n_inside = 0  # threads in long calls; changed with the GIL held
cdef atomic[cbool] _exiting


cdef int _enter() except -1:
    """Begin a call that may take long. Pair it with _leave()."""
    global _n_inside
    if _exiting.load():
        _hold_daemon()
    _n_inside += 1
    return 0


cdef int _leave() except -1:
    global _n_inside
    _n_inside -= 1
    if _exiting.load():
        _hold_daemon()
    return 0


cdef int _hold_daemon() except -1:
    """Python freezes daemon threads a moment later; an exception would only print a traceback."""
    if _threading.current_thread().daemon:
        _threading.Event().wait()
    return 0


def _wait_for_calls():
    _exiting.store(True)
    while _n_inside:
        _time.sleep(0.001)


def _forget_calls():
    """The threads of the parent do not exist after a fork."""
    global _n_inside
    _n_inside = 0


_atexit.register(_wait_for_calls)
if hasattr(_os, "register_at_fork"):
    _os.register_at_fork(after_in_child=_forget_calls)
