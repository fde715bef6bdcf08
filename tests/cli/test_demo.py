"""``pyllama demo``: what is shown, with a terminal and without."""

from __future__ import annotations

import re
import subprocess
import sys

from terminal import Terminal

APPLIED = re.compile(r"\[reasoning_end: applied at token (\d+)\]")


def test_a_pipe_gets_plain_text() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pyllama.cli", "demo"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    thought, answer = APPLIED.split(done.stdout)[::2]
    assert thought.startswith("> How many")
    assert "[thinking] The user wants" in thought
    assert "[answer] " in answer
    found = APPLIED.search(done.stdout)
    alone = re.search(r"Left alone, it takes (\d+)", done.stdout)
    assert found is not None
    assert alone is not None
    assert 60 <= int(found[1]) < int(alone[1])


def test_a_terminal_shows_the_reasoning_dimmed() -> None:
    with Terminal("demo") as terminal:
        terminal.expect("applied at token ")
        terminal.expect("Left alone")
        # Each delta is dimmed by itself, and how the text falls into deltas depends on the machine.
        assert "\x1b[2mThe" in terminal.raw.replace("\x1b[22m\x1b[2m", "")
        assert terminal.end() == 0


def test_no_color_is_respected() -> None:
    with Terminal("demo", NO_COLOR="1") as terminal:
        terminal.expect("Left alone")
        assert "\x1b[" not in terminal.raw
        assert terminal.end() == 0


def test_ctrl_c_ends_it() -> None:
    with Terminal("demo") as terminal:
        terminal.expect("The user wants")
        terminal.type("\x03")
        assert terminal.end() == 130
        assert "Traceback" not in terminal.seen
