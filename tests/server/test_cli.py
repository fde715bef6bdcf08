"""The commands, as processes: what they print and how they exit."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pyllama.models import demo_model_path


def run(*args: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "pyllama.cli", *args],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def fails_in_one_line(*args: str) -> str:
    done = run("serve", *args)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("pyllama-server: ")
    return line


def test_version() -> None:
    done = run("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("pyllama 0.")


def test_info() -> None:
    info = json.loads(run("info", "--json").stdout)
    assert info["llama_cpp"].startswith("b")
    assert "CPU" in info["backends"]
    assert info["devices"]
    text = run("info").stdout
    assert info["llama_cpp"] in text
    assert info["flags"] in text


@pytest.mark.parametrize("args", [[], ["nonsense"], ["info", "--yaml"]])
def test_wrong_use(args: list[str]) -> None:
    done = run(*args)
    assert done.returncode == 2
    assert "usage: pyllama " in done.stderr


def test_serve_help_shows_both_kinds_of_flags() -> None:
    done = run("serve", "--help")
    assert done.returncode == 0
    assert "--ctx-size" in done.stdout
    assert "--shutdown-timeout" in done.stdout


def test_unknown_flag() -> None:
    assert "--no-such-flag" in fails_in_one_line("--no-such-flag")


def test_bad_value() -> None:
    assert "--max-queue" in fails_in_one_line("--max-queue", "many")


def test_unknown_tool() -> None:
    line = fails_in_one_line("--tools", "read_file,bad")
    assert 'unknown tool "bad"' in line
    assert "available tools: read_file, file_glob_search" in line


def test_bad_ui_config() -> None:
    assert "--ui-config is not JSON" in fails_in_one_line("--webui-config", "{")


def test_missing_static_files(tmp_path: Path) -> None:
    assert "no such directory" in fails_in_one_line("--path", str(tmp_path / "none"))


def test_what_a_flag_does_not_do_is_said_once(tmp_path: Path) -> None:
    done = run("serve", "--spec-type", "ngram-mod", "-md", "x", "--model", str(tmp_path / "missing.gguf"))
    warning, reason = done.stderr.splitlines()
    assert "without effect: --spec-type, -md (speculative decoding" in warning
    assert "no such file" in reason


def test_missing_model(tmp_path: Path) -> None:
    path = str(tmp_path / "missing.gguf")
    line = fails_in_one_line("--model", path)
    assert path in line
    assert "no such file" in line


def test_model_that_is_no_gguf(tmp_path: Path) -> None:
    path = tmp_path / "text.gguf"
    path.write_text("hello, I am not a model at all")
    assert "not a GGUF" in fails_in_one_line("--model", str(path))


@pytest.mark.parametrize("keep", [3, 10, 2000, 100_000])
def test_truncated_model(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(demo_model_path().read_bytes()[:keep])
    assert str(path) in fails_in_one_line("--model", str(path), "--port", "0")


def test_model_of_an_unknown_kind(tmp_path: Path) -> None:
    path = tmp_path / "unknown.gguf"
    path.write_bytes(demo_model_path().read_bytes().replace(b"qwen3", b"qwen0", 1))
    assert "unknown model architecture: 'qwen0'" in fails_in_one_line("--model", str(path), "--port", "0")


def test_busy_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = str(busy.getsockname()[1])
        done = run("serve", "--port", port)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert port in line
    assert "in use" in line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serves_the_demo_model_and_ends_on_a_signal(number: signal.Signals) -> None:
    command = [sys.executable, "-P", "-m", "pyllama.cli", "serve", "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ}
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(6)]
        process.send_signal(number)
        rest, errors = process.communicate(timeout=60)
    assert "demo model" in lines[0]
    assert re.fullmatch(r"pyllama \S+, llama\.cpp b\d+, backend .*CPU.*\n", lines[1])
    assert "ready on http://127.0.0.1:" in lines[2]
    assert "curl -N http://127.0.0.1:" in lines[4]
    assert len(set(lines)) == len(lines)
    assert rest == ""
    assert errors == ""
    assert process.returncode == 0
