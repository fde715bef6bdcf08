"""Bars, styles and answers on a terminal, without a model."""

from __future__ import annotations

import io
import os
import pty
import termios
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from pyllama.answer import Delta
from pyllama.cli import terminal
from pyllama.cli.terminal import AnswerWriter, Bar, cells, printable


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A terminal as stderr; gives the descriptor of its other side."""
    outer, inner = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(terminal, "_BAR_DELAY", 0)
    with os.fdopen(inner, "w") as stderr:
        monkeypatch.setattr(terminal, "sys", SimpleNamespace(stderr=stderr))  # pytest sets its own
        yield outer
    os.close(outer)


@pytest.mark.parametrize("columns", [1, 10, 20, 30, 80, 300])
def test_a_bar_fits_the_width_that_the_terminal_has_now(screen: int, columns: int) -> None:
    bar = Bar("loading")
    termios.tcsetwinsize(screen, (24, columns))
    bar.show(0.5)
    line = os.read(screen, 4096).decode().removeprefix("\r").removesuffix("\x1b[K")
    assert len(line) < columns
    if columns >= 30:
        assert line.endswith(" 50%")
        assert line.count("#") == line.count(".")
    bar.clear()
    assert os.read(screen, 4096) == b"\r\x1b[K"
    bar.clear()


def test_no_bar_where_no_person_looks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(terminal, "_BAR_DELAY", 0)
    bar = Bar("loading")
    bar.show(0.5)
    bar.clear()
    assert capsys.readouterr().err == ""


def test_no_bar_for_what_is_soon_over(screen: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "_BAR_DELAY", 3600)
    bar = Bar("loading")
    bar.show(0.5)
    bar.clear()
    os.set_blocking(screen, False)
    with pytest.raises(BlockingIOError):
        os.read(screen, 4096)


def test_text_cannot_drive_the_terminal() -> None:
    assert printable("a\x1b[2Jb\x9bc\rd\x07\te\n") == "a\ufffd[2Jb\ufffdc\ufffdd\ufffd\te\n"


def test_cells() -> None:
    assert cells("abc") == 3
    assert cells("日本") == 4
    assert cells("e\u0301") == 1


def written(*deltas: Delta) -> str:
    out = io.StringIO()
    writer = AnswerWriter(out)
    for delta in deltas:
        writer.write(delta)
    writer.end()
    return out.getvalue()


def test_an_answer_without_style() -> None:
    assert written(Delta(content="\n\n"), Delta(content="Hi"), Delta(content="!\n")) == "Hi!\n"
    assert written() == ""
    thought = (Delta(reasoning="\nWell"), Delta(reasoning=".\n\n"), Delta(content="\n\n42"))
    assert written(*thought) == "[thinking] Well.\n\n[answer] 42\n"
    assert written(Delta(content="a\n"), Delta(content="\nb")) == "a\n\nb\n"
