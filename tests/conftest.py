"""For all tests: signals as a terminal gives them."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    # In a shell's background SIGINT is ignored, also by every process that a test starts and interrupts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
