"""What ``chat`` and ``run`` share: an engine from flags, its load's progress, llama.cpp's log, exit codes."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyllama.logging
from pyllama.cli.pipes import drop_output
from pyllama.cli.terminal import Bar, dim, printable
from pyllama.errors import PyllamaError
from pyllama.sync import SyncEngine

__all__ = ["HeldLog", "guarded", "open_engine", "take_option"]

_VERBOSE = {"-v", "--verbose", "--log-verbose", "-lv", "--verbosity", "--log-verbosity"}
# As a shell reports processes that SIGINT ended.
_INTERRUPTED = 130


class HeldLog(logging.Handler):
    """Holds llama.cpp's warnings back until a moment when they spoil no line."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line. Runs on the log's own thread."""
        self._lines.append(record.getMessage())

    def show(self) -> None:
        """Write what has come since the last call to stderr."""
        lines, self._lines = self._lines, []
        for line in lines:
            print(dim(printable(line), sys.stderr), file=sys.stderr)


@contextmanager
def open_engine(flags: list[str]) -> Iterator[tuple[SyncEngine, HeldLog]]:
    """Load the model that llama-server's flags name, with a progress bar, and close it at the end.

    Who asks for llama.cpp's log by a flag gets it as llama-server writes it.
    """
    held = HeldLog()
    bar = Bar("loading the model")
    engine = SyncEngine.from_flags(flags, progress=bar.show)
    if not _VERBOSE.intersection(flags):
        logger = logging.getLogger("pyllama.cli")
        logger.propagate = False
        logger.addHandler(held)
        pyllama.logging.install(logging.WARNING, "pyllama.cli")
    try:
        try:
            engine.start()
        finally:
            bar.clear()
        held.show()
        yield engine, held
    finally:
        engine.close()
        pyllama.logging.uninstall()
        held.show()


def guarded(command: str, body: Callable[[], int]) -> int:
    """Run a command's body; return the exit code. An error is one line, Ctrl-C none."""
    from pyllama._core import _llama

    try:
        return body()
    except _llama.CliExit as exc:
        return exc.code
    except BrokenPipeError:
        return drop_output()
    except (PyllamaError, OSError) as exc:
        print(f"pyllama {command}: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED


def take_option(args: list[str], name: str) -> str | None:
    """Take ``name VALUE`` out of the arguments.

    Raises:
        LookupError: The value is missing.
    """
    if name not in args:
        return None
    at = args.index(name)
    if at + 1 == len(args):
        raise LookupError(f"{name} needs a value")
    value = args[at + 1]
    del args[at : at + 2]
    return value
