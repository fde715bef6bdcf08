"""The --log-* flags, each seen in what a server process writes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pyllama._core import _llama
from pyllama.server.flags import given_flags, without_log_file
from pyllama.server.logs import LogOptions

MISSING = ("--spec-type", "ngram-mod", "--model", "missing.gguf")


def fail_to_start(*flags: str, **environ: str) -> tuple[str, str]:
    """Start a server that warns of a flag and has no model; return stdout and stderr."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pyllama.cli", "serve", *MISSING, *flags],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environ},
    )
    assert done.returncode == 1
    return done.stdout, done.stderr


def options(*args: str, **environ: str) -> LogOptions | None:
    return LogOptions.from_flags(given_flags(_llama.known_flags(), args, environ))


def test_no_flag_is_no_log() -> None:
    assert options("--port", "0", "-v") is None


def test_flags_and_variables() -> None:
    assert options("--log-prefix", "--log-timestamps", "--log-colors", "on") == LogOptions(
        prefix=True, timestamps=True, colors="on"
    )
    assert options("--no-log-prefix", LLAMA_ARG_LOG_PREFIX="1") == LogOptions(prefix=False)
    assert options(LLAMA_ARG_LOG_FILE="x.log") == LogOptions(file="x.log")


def test_the_parser_does_not_see_the_file() -> None:
    args = ["--alias", "--log-file", "--log_file", "x.log", "-t", "1", "--log-file"]
    assert without_log_file(_llama.known_flags(), args) == ["--alias", "--log-file", "-t", "1", "--log-file"]


def test_prefix_and_timestamps() -> None:
    _, errors = fail_to_start("--log-prefix", "--log-timestamps")
    warning, error = errors.splitlines()
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d W accepted, but without effect: --spec-type", warning)
    assert re.match(r"\S+ E cannot load the model missing\.gguf", error)


def test_colors() -> None:
    _, errors = fail_to_start("--log-colors", "on")
    assert errors.splitlines()[1].startswith("\033[31mcannot load")
    assert errors.splitlines()[1].endswith("\033[0m")


def test_json_lines() -> None:
    output, errors = fail_to_start("--log-jsonl")
    assert errors == ""
    records = [json.loads(line) for line in output.splitlines()]
    assert [record["level"] for record in records] == ["warning", "error"]
    assert all(record["type"] == "log" for record in records)


def test_a_file_gets_the_lines_too(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    _, errors = fail_to_start("--log-file", str(path), "--log-colors", "on")
    assert len(path.read_text().splitlines()) == 2
    assert "\033" not in path.read_text()
    assert "cannot load" in errors
    _, errors = fail_to_start(LLAMA_ARG_LOG_FILE=str(path))
    assert len(path.read_text().splitlines()) == 2


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    _, errors = fail_to_start("--log-file", str(tmp_path / "none" / "x.log"))
    (line,) = errors.splitlines()
    assert "--log-file" in line
    assert "o such file" in line


def test_disabled() -> None:
    assert fail_to_start("--log-disable") == ("", "")


@pytest.mark.parametrize("flags", [("--log-jsonl",), ()])
def test_a_server_with_a_log_file_serves(tmp_path: Path, flags: tuple[str, ...]) -> None:
    path = tmp_path / "server.log"
    command = [sys.executable, "-P", "-m", "pyllama.cli", "serve", "--port", "0", "--log-file", str(path)]
    with subprocess.Popen(
        [*command, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if "curl" in line:
                break
        process.terminate()
        rest, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert errors == ""
    if flags:
        assert all(json.loads(line)["type"] == "log" for line in [*lines, *rest.splitlines()])
    logged = path.read_text()
    assert "is ready on http://127.0.0.1:" in logged
    assert len(set(logged.splitlines())) == len(logged.splitlines())
