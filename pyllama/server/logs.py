"""Where the server's lines go: stdout and stderr as they are, or as the ``--log-*`` flags say.

llama.cpp's own lines come through ``pyllama.logging`` then, so that all are in one place and one form.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

from pyllama.errors import InvalidRequestError
from pyllama.server.flags import GivenFlag, leading_name

__all__ = ["LogOptions", "announce", "complain", "set_up"]

_LETTERS = {"DEBUG": "D", "INFO": "I", "WARNING": "W", "ERROR": "E", "CRITICAL": "E"}
_COLORS = {"DEBUG": "\033[90m", "WARNING": "\033[33m", "ERROR": "\033[31m", "CRITICAL": "\033[31m"}
_RESET = "\033[0m"
# llama-common's --verbosity: 5 debug, 4 trace, 2 warning.
_LEVELS = ((5, logging.DEBUG), (4, logging.INFO), (2, logging.WARNING))

_logger = logging.getLogger("pyllama")
_options: LogOptions | None = None


@dataclass(frozen=True, slots=True)
class LogOptions:
    """What the flags say of the log."""

    disabled: bool = False
    file: str = ""
    jsonl: bool = False
    prefix: bool = False
    timestamps: bool = False
    colors: str = "auto"

    @classmethod
    def from_flags(cls, given: Iterable[GivenFlag]) -> Self | None:
        """Return the options, None when no flag is about the log."""
        options, found = cls(), False
        for each in given:
            name = leading_name(each.flag)
            if name == "--log-disable":
                options = replace(options, disabled=True)
            elif name == "--log-file":
                options = replace(options, file=each.value)
            elif name == "--log-jsonl":
                options = replace(options, jsonl=not each.negated)
            elif name == "--log-prefix":
                options = replace(options, prefix=not each.negated)
            elif name == "--log-timestamps":
                options = replace(options, timestamps=not each.negated)
            elif name == "--log-colors":
                options = replace(options, colors=each.value)
            else:
                continue
            found = True
        return options if found else None


def set_up(options: LogOptions, verbosity: int) -> None:
    """Send everything where the options say, llama.cpp's lines included.

    Raises:
        InvalidRequestError: The file cannot be written.
    """
    global _options
    from pyllama import logging as core_log

    handlers: list[logging.Handler] = []
    if not options.disabled:
        stream = logging.StreamHandler(sys.stdout if options.jsonl else sys.stderr)
        stream.setFormatter(_Formatter(options, colored=_is_colored(options)))
        if not options.jsonl:
            stream.addFilter(lambda record: not getattr(record, "announced", False))  # stdout has it
        handlers.append(stream)
        if options.file:
            try:
                file = logging.FileHandler(options.file, "w", "utf-8")
            except OSError as error:
                reason = error.strerror or str(error)
                raise InvalidRequestError(
                    f"--log-file {options.file}: {reason}", param="--log-file"
                ) from None
            file.setFormatter(_Formatter(options, colored=False))
            handlers.append(file)
    _logger.handlers[:] = handlers or [logging.NullHandler()]
    _logger.propagate = False
    _logger.setLevel(logging.DEBUG)
    _options = options
    core_log.install(next((level for least, level in _LEVELS if verbosity >= least), logging.ERROR))


def announce(line: str) -> None:
    """Say what whoever started the server waits for."""
    if _options is None or not _options.jsonl:
        print(line, flush=True)
    if _options is not None:
        _logger.info("%s", line, extra={"announced": True})


def complain(message: str, level: int = logging.ERROR) -> None:
    """Say what went wrong, in one line."""
    if _options is None:
        print(f"pyllama-server: {message}", file=sys.stderr, flush=True)
    else:
        _logger.log(level, "%s", message)


def _is_colored(options: LogOptions) -> bool:
    if options.jsonl or options.colors.lower() in ("off", "false", "0", "disabled"):
        return False
    return options.colors.lower() in ("on", "true", "1", "enabled") or sys.stderr.isatty()


class _Formatter(logging.Formatter):
    """One line for each record: text, or a JSON object with llama-server's members."""

    def __init__(self, options: LogOptions, *, colored: bool) -> None:
        super().__init__()
        self._options = options
        self._colored = colored

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        seconds = record.relativeCreated / 1000
        if self._options.jsonl:
            value = {
                "type": "log",
                "time": int(seconds * 1e6) if self._options.timestamps else 0,
                "level": record.levelname.lower(),
                "msg": text,
            }
            return json.dumps(value, ensure_ascii=False)
        lead = ""
        if self._options.timestamps:
            lead = time.strftime("%Y-%m-%dT%H:%M:%S ", time.localtime(record.created))
        lead += f"{_LETTERS[record.levelname]} " if self._options.prefix else ""
        color = _COLORS.get(record.levelname, "") if self._colored else ""
        return f"{lead}{color}{text}{_RESET if color else ''}"
