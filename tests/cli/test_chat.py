"""``pyllama chat``, on a terminal and at the end of a pipe."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from terminal import Terminal

from pyllama import Model
from pyllama.models import demo_model_path

ENDLESS = ("chat", "--threads", "1", "--ctx-size", "100000", "--ignore-eos")
DIM = "\x1b[2m"


def at_the_prompt(terminal: Terminal) -> None:
    """Return when readline reads: control characters that come earlier are the terminal's."""
    terminal.expect("> ")
    terminal.type("x")
    terminal.expect("x")
    terminal.type("\x7f")
    terminal.expect("\b")


def test_answers_with_dimmed_reasoning_and_leaves_at_the_end_of_input() -> None:
    with Terminal("chat", "--threads", "1") as terminal:
        terminal.expect("/help shows the commands")
        terminal.type("What is 17 + 25?\n")
        terminal.expect("The user wants")
        terminal.expect("The sum is 42.")
        terminal.expect("tokens/s]")
        assert f"{DIM}The" in terminal.raw
        assert "\r\nThe sum is 42." in terminal.raw
        at_the_prompt(terminal)
        terminal.type("\x04")
        assert terminal.end() == 0


def test_no_color_marks_the_reasoning_by_words() -> None:
    with Terminal("chat", "--threads", "1", NO_COLOR="1") as terminal:
        terminal.type("What is 17 + 25?\n")
        terminal.expect("[thinking] ")
        terminal.expect("[answer] The sum is 42.")
        assert DIM not in terminal.raw
        terminal.type("/quit\n")
        assert terminal.end() == 0


def test_ctrl_c_stops_the_answer_and_keeps_the_session() -> None:
    with Terminal(*ENDLESS) as terminal:
        terminal.expect("/help shows")
        for _ in range(2):
            terminal.type("What is 17 + 25?\n")
            terminal.expect("The user wants")
            assert not terminal.has_echo()
            terminal.type("\x03")
            terminal.expect("[stopped]")
        at_the_prompt(terminal)
        terminal.type("\x03")
        terminal.expect("Ctrl-D leaves")
        at_the_prompt(terminal)
        terminal.type("/quit\n")
        assert terminal.end() == 0


# Presses Ctrl-C inside readline, when the prompt is written and before it waits for a key: no system call is
# interrupted then.
PRESS_BEFORE_WAITING = """
import ctypes, readline
try:
    hook = ctypes.c_void_p.in_dll(ctypes.CDLL(readline.__file__), "rl_pre_input_hook")
except ValueError:
    print("no hook", flush=True)
else:
    press = ctypes.pythonapi.PyErr_SetInterrupt
    hook.value = ctypes.cast(press, ctypes.c_void_p).value
"""


def test_ctrl_c_right_before_readline_waits(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(PRESS_BEFORE_WAITING)
    with Terminal("chat", "--threads", "1", PYTHONPATH=str(tmp_path)) as terminal:
        if "no hook" in terminal.expect("/help shows"):
            pytest.skip("this readline has no such hook")
        for _ in range(3):
            terminal.expect("> ")
            terminal.expect("Ctrl-D leaves")


# However short a prefill is, it is shown.
SHOWN_AT_ONCE = "from pyllama.cli import terminal; terminal._BAR_DELAY = 0"


def test_ctrl_c_during_the_prefill(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SHOWN_AT_ONCE)
    with Terminal(*ENDLESS, PYTHONPATH=str(tmp_path)) as terminal:
        terminal.expect("/help shows")
        terminal.type("What is 17 + 25? " * 150 + "\n")
        terminal.expect("reading the prompt")
        terminal.type("\x03")
        terminal.expect("[stopped]")
        at_the_prompt(terminal)
        terminal.type("\x04")
        assert terminal.end() == 0


# A load that goes on until it is stopped. Ctrl-C comes in the middle.
ENDLESS_LOAD = """
import os, signal, threading
from pyllama._core import _llama

def load(params, progress):
    os.kill(os.getpid(), signal.SIGINT)
    over.wait(30)
    raise RuntimeError("stopped" if over.is_set() else "never stopped")

class Progress:
    value = 0.5
    def stop(self):
        over.set()

over = threading.Event()
_llama.Engine, _llama.LoadProgress = load, Progress
"""


@pytest.mark.parametrize("args", [("chat",), ("run", "What is 17 + 25?")])
def test_ctrl_c_during_the_load(tmp_path: Path, args: tuple[str, ...]) -> None:
    (tmp_path / "sitecustomize.py").write_text(ENDLESS_LOAD)
    with Terminal(*args, PYTHONPATH=str(tmp_path)) as terminal:
        assert terminal.end() == 130
        assert "Traceback" not in terminal.rest()
        assert terminal.has_echo()


def test_commands_work_while_an_answer_runs() -> None:
    with Terminal(*ENDLESS) as terminal:
        terminal.type("What is 17 + 25?\n")
        terminal.expect("The user wants")
        terminal.type("/thx\x7fink off\n")
        terminal.expect("[thinking is off from the next answer on]")
        terminal.type("never sent\x15/nonsense\n")
        terminal.expect("unknown command /nonsense")
        terminal.type("/quit\n")
        assert terminal.end() == 0
        assert terminal.has_echo()


def test_end_ends_the_reasoning() -> None:
    with Model(demo_model_path(), vocab_only=True) as model:
        (end,) = model.vocab.tokenize("</think>", add_special=False)
    # The model cannot end its reasoning itself.
    with Terminal(*ENDLESS, "--logit-bias", f"{end}-1000", NO_COLOR="1") as terminal:
        terminal.type("/end\nWhat is 17 + 25?\n")
        terminal.expect("no answer is running")
        terminal.expect("[thinking] The user wants")
        terminal.type("/end\n")
        terminal.expect("[answer] ")
        terminal.type("\x03")
        terminal.expect("[stopped]")
        terminal.type("/quit\n")
        assert terminal.end() == 0


def test_what_is_typed_during_an_answer_is_the_next_question() -> None:
    with Terminal(*ENDLESS) as terminal:
        terminal.type("What is 17 + 25?\n")
        terminal.expect("The user wants")
        terminal.type("What is 3 + 4?\nunfinish")
        terminal.expect("unfinish")
        terminal.type("\x03")
        terminal.expect("[stopped]")
        terminal.expect("> What is 3 + 4?")
        terminal.expect("The user wants")
        terminal.type("\x03")
        terminal.expect("[stopped]")
        terminal.expect("> unfinish")
        terminal.type("x")
        terminal.expect("x")
        terminal.type("\x15/quit\n")
        assert terminal.end() == 0


def test_a_signal_gives_the_terminal_back() -> None:
    with Terminal(*ENDLESS) as terminal:
        terminal.type("What is 17 + 25?\n")
        terminal.expect("The user wants")
        assert not terminal.has_echo()
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.end() == 128 + signal.SIGTERM
        assert terminal.has_echo()


def pipe(text: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "pyllama.cli", "chat", "--threads", "1", *args],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_pipe_brings_one_question_a_line() -> None:
    done = pipe("What is 17 + 25?\n\n/reset\n/think off\nWhat is 17 + 25?\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert "[answer] The sum is 42." in done.stdout
    assert done.stdout.count("[thinking]") == 1


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["--no-such-flag"], 1, "pyllama chat: invalid argument: --no-such-flag"),
        (["--model", "/nowhere.gguf"], 1, "/nowhere.gguf"),
        (["--system"], 2, "--system needs a value"),
    ],
)
def test_wrong_use(args: list[str], code: int, words: str) -> None:
    done = pipe("", *args)
    assert done.returncode == code
    assert words in done.stderr.splitlines()[0]


def test_help() -> None:
    assert pipe("", "--help").stdout.startswith("usage: pyllama chat")
