"""``pyllama run``: what goes to stdout and stderr, and how it exits."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from terminal import Terminal

QUESTION = "What is 17 + 25?"


def run(*args: str, piped: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "pyllama.cli", "run", *args],
        input=piped,
        stdin=subprocess.DEVNULL if piped is None else None,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("args", "piped"),
    [
        ([QUESTION, "-t", "1"], None),
        (["-t", "1", QUESTION], None),
        (["-t", "1"], QUESTION + "\n"),
        ([QUESTION, "-t", "1", "--system", "You answer."], None),
    ],
)
def test_only_the_answer_goes_to_stdout(args: list[str], piped: str | None) -> None:
    done = run(*args, piped=piped)
    assert (done.returncode, done.stderr) == (0, "")
    assert "42" in done.stdout
    assert done.stdout.endswith("\n")
    assert "The user wants" not in done.stdout


def test_what_is_piped_in_follows_the_prompt() -> None:
    together = run("-t", "1", "--temp", "0", "--seed", "1", "What is\n\n17 + 25?")
    apart = run("What is", "-t", "1", "--temp", "0", "--seed", "1", piped="17 + 25?\n")
    assert together.returncode == apart.returncode == 0
    assert together.stdout == apart.stdout


def test_reasoning_goes_to_stderr_when_asked_for() -> None:
    done = run(QUESTION, "-t", "1", "--show-reasoning")
    assert done.stderr.startswith("The user wants")
    assert "The user wants" not in done.stdout


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        ([], 2, "there is no prompt"),
        (["hi", "--system"], 2, "--system needs a value"),
        (["hi", "--no-such-flag"], 1, "--no-such-flag"),
        (["hi", "-m", "/nowhere.gguf"], 1, "/nowhere.gguf"),
        (["hi " * 5000, "-c", "512"], 1, "512"),
    ],
)
def test_failures(args: list[str], code: int, words: str) -> None:
    done = run(*args)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr.splitlines()[0]


def test_nobody_reads_the_answer() -> None:
    command = [sys.executable, "-P", "-m", "pyllama.cli", "run", QUESTION, "-t", "1", "--ignore-eos"]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 141


def test_ctrl_c() -> None:
    with Terminal("run", QUESTION, "-t", "1", "--ignore-eos", "-c", "100000", "--show-reasoning") as terminal:
        terminal.expect("The user wants")
        terminal.type("\x03")
        assert terminal.end() == 130
        assert terminal.process.returncode != -signal.SIGINT


def test_a_terminal_gets_no_control_characters() -> None:
    with Terminal("run", QUESTION, "-t", "1") as terminal:
        terminal.expect("The sum is 42.")
        assert "\x1b" not in terminal.raw
        assert terminal.end() == 0
