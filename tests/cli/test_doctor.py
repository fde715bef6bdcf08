"""``pyllama doctor`` as it is called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pyllama.cli import main
from pyllama.cli.info import cpu_library


def test_a_healthy_installation(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("pyllama 0.")
    assert "llama.cpp b" in first


def test_errors_are_told_with_what_to_do_and_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = str(tmp_path / "none.gguf")
    assert main(["doctor", "-m", missing, "--json"]) == 1
    (finding,) = [each for each in json.loads(capsys.readouterr().out) if each["level"] == "error"]
    assert missing in finding["what"]
    assert main(["doctor", "-m", missing]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("error:   ") and missing in line for line in lines)


def test_a_process_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--pid", str(2**22 + 1)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1


def test_wrong_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--nonsense"]) == 2
    assert "usage: pyllama doctor" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("library", "configuration", "expected"),
    [
        ("libggml-cpu-haswell.so", "plug-in", "CPU variant haswell"),
        ("libggml-cpu.so", "plug-in", "one CPU variant"),
        ("libpyllama-ggml-cpu.so", "native", "for the CPU it was built on"),
        ("libggml-cpu.so.0.26.0", "system-ggml", "the system's CPU kernels"),
        ("libggml-cpu-haswell.so", "system-ggml", "CPU variant haswell"),
        ("", "plug-in", "no CPU backend"),
    ],
)
def test_the_chosen_variant_is_named(library: str, configuration: str, expected: str) -> None:
    info = {"libraries": {"CPU": library} if library else {}, "configuration": configuration}
    assert cpu_library(info) == expected
