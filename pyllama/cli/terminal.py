"""What a person sees: styles, progress bars, and text that cannot move the cursor."""

from __future__ import annotations

import os
import sys
import time
import unicodedata
from typing import TextIO

from pyllama.answer import Delta

__all__ = ["AnswerWriter", "Bar", "can_move_cursor", "cells", "dim", "has_style", "printable"]

# Control characters but newline and tab: a model's text must not drive the terminal.
_CONTROLS = {
    code: "\N{REPLACEMENT CHARACTER}" for code in (*range(32), *range(127, 160)) if code not in (9, 10)
}
# Seconds before a bar is shown: what is over sooner needs none.
_BAR_DELAY = 0.4
_BAR_CELLS = 30


def can_move_cursor(stream: TextIO) -> bool:
    """Whether a stream is a terminal that understands escape sequences."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def has_style(stream: TextIO) -> bool:
    """Whether text on this stream may be styled; NO_COLOR says no."""
    return can_move_cursor(stream) and not os.environ.get("NO_COLOR")


def dim(text: str, stream: TextIO) -> str:
    """Return text that is dimmed where the stream shows it so."""
    return f"\x1b[2m{text}\x1b[22m" if has_style(stream) else text


def printable(text: str) -> str:
    """Return text with control characters replaced, newlines and tabs excepted."""
    return text.translate(_CONTROLS)


def cells(text: str) -> int:
    """Return the columns that a text takes: two for wide characters, none for combining ones."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


class Bar:
    """A line on stderr that shows how far something is; nothing where stderr is no terminal."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._since = time.monotonic()
        self._shown = False

    def show(self, share: float) -> None:
        """Draw a share from 0 to 1, for the width that the terminal has now."""
        if time.monotonic() - self._since < _BAR_DELAY or not can_move_cursor(sys.stderr):
            return
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
        width = max(0, min(_BAR_CELLS, columns - len(self._label) - 9))
        full = round(share * width)
        line = f"{self._label} [{'#' * full}{'.' * (width - full)}] {share:4.0%}"
        sys.stderr.write("\r" + line[: columns - 1] + "\x1b[K")
        sys.stderr.flush()
        self._shown = True

    def clear(self) -> None:
        """Take the line away; idempotent."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._shown = False


class AnswerWriter:
    """Writes an answer as it comes: the reasoning dimmed, or marked where there is no style."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._in_reasoning: bool | None = None
        self._held = ""  # newlines that are not written unless something follows

    def write(self, delta: Delta) -> None:
        """Write what is new."""
        if delta.reasoning:
            self._piece(delta.reasoning, reasoning=True)
        if delta.content:
            self._piece(delta.content, reasoning=False)
        self._out.flush()

    def _piece(self, text: str, *, reasoning: bool) -> None:
        if reasoning is not self._in_reasoning:
            text = text.lstrip("\n")
            if not text:
                return
            if self._in_reasoning is not None:
                self._out.write("\n\n")
            if not has_style(self._out) and (reasoning or self._in_reasoning):
                self._out.write("[thinking] " if reasoning else "[answer] ")
            self._in_reasoning = reasoning
            self._held = ""
        text = printable(self._held + text)
        kept = text.rstrip("\n")
        self._held = text[len(kept) :]
        if kept:
            self._out.write(dim(kept, self._out) if reasoning else kept)

    def end(self) -> None:
        """End the last line."""
        if self._in_reasoning is not None:
            self._out.write("\n")
        self._out.flush()
