"""What a person types while an answer runs.

The terminal gives single keys then, without echo. The first key of a line pauses the answer's display; the
line is shown below it, and goes away when it is entered or erased. So neither ever runs through the other.
"""

from __future__ import annotations

import codecs
import os
import signal
import sys
import termios
import tty
from types import FrameType, TracebackType
from typing import Any, Self

from pyllama.cli.terminal import cells, dim

__all__ = ["Keys"]

_PROMPT = "> "
_ERASE = {"\x7f", "\b"}
_FORGET = {"\x15", "\x1b"}  # Ctrl-U, Escape
_ENTER = {"\r", "\n"}


class Keys:
    """Reads keys of the terminal on stdin; a context manager that gives the terminal back as it was."""

    def __init__(self) -> None:
        self._fd = sys.stdin.fileno()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._before: list[Any] = []
        self._before_cont: Any = None
        self.text: str = ""
        self.entered: list[str] = []  # lines that nobody has taken yet

    def __enter__(self) -> Self:
        self._before = termios.tcgetattr(self._fd)
        tty.setcbreak(self._fd, termios.TCSANOW)
        # A shell that brings the process back sets its own modes first.
        self._before_cont = signal.signal(signal.SIGCONT, self._on_continue)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        signal.signal(signal.SIGCONT, self._before_cont)
        self._hide()
        termios.tcsetattr(self._fd, termios.TCSANOW, self._before)

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._fd

    @property
    def typing(self) -> bool:
        """Whether an unfinished line is shown, so that the answer has to wait."""
        return bool(self.text)

    def read(self) -> None:
        """Take the keys that wait; call it when the descriptor is readable."""
        typed = self._decoder.decode(os.read(self._fd, 4096))
        if typed.startswith("\x1b") and len(typed) > 1:
            return  # an arrow or function key
        for char in typed:
            self._key(char)

    def _key(self, char: str) -> None:
        shown = bool(self.text)
        if char in _ENTER:
            if shown:
                self.entered.append(self.text)
            self._hide()
            self.text = ""
        elif char in _FORGET:
            self._hide()
            self.text = ""
        elif char in _ERASE:
            self._hide()
            self.text = self.text[:-1]
            self._show()
        elif char.isprintable():
            self._hide()
            self.text += char
            self._show()

    def _show(self) -> None:
        if self.text:
            columns = os.get_terminal_size(self._fd).columns
            visible = self.text
            while cells(_PROMPT + visible) >= columns:
                visible = visible[1:]
            # Make room for a line below, remember the place, and go there.
            sys.stdout.write("\x1bD\x1b[A\x1b7\r\x1bD\x1b[2K" + dim(_PROMPT, sys.stdout) + visible)
            sys.stdout.flush()

    def _hide(self) -> None:
        if self.text:
            sys.stdout.write("\r\x1b[2K\x1b8")
            sys.stdout.flush()

    def _on_continue(self, number: int, frame: FrameType | None) -> None:
        tty.setcbreak(self._fd, termios.TCSANOW)
