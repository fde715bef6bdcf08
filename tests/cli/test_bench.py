"""``pyllama bench``: what it tells, what it writes, and how it exits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripted_server import Exchange, ScriptedServer, refusal

COMMAND = [sys.executable, "-P", "-m", "pyllama.cli", "bench"]


def bench(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *args],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    yield server
    server.stop()


def test_a_load_is_told(server: ScriptedServer) -> None:
    done = bench(server.url, "--users", "2", "--requests", "6", "--max-tokens", "9", "--slo", "ttft=60000")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"{server.url}/v1/chat/completions: 2 users"
    assert lines[1] == "6 answered, 0 failed"
    assert lines[4].split() == ["milliseconds", "p50", "p90", "p99", "max"]
    assert "goodput (ttft ≤ 60000 ms): 100.0% of all requests" in done.stdout
    assert len(server.bodies) == 6


def test_what_is_asked_for(server: ScriptedServer, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('"one"\n{"prompt": "two", "max_tokens": 3}\n')
    args = ["--prompts", str(prompts), "--requests", "3", "--model", "m", "--ignore-eos", "--max-tokens", "5"]
    done = bench(server.url, *args, "--body", '{"temperature": 0.5}', LLAMA_API_KEY="key")
    assert done.returncode == 0
    assert [body["messages"][0]["content"] for body in server.bodies] == ["one", "two", "one"]
    assert [body["max_tokens"] for body in server.bodies] == [5, 3, 5]
    assert all(body["model"] == "m" and body["ignore_eos"] for body in server.bodies)
    assert all(body["temperature"] == 0.5 for body in server.bodies)
    assert all("Authorization: Bearer key\r\n" in head for head in server.heads)


def test_an_open_loop_as_json(server: ScriptedServer, tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    args = ["--rate", "200", "--requests", "5", "--arrivals", "constant", "--max-tokens", "4"]
    done = bench(server.url, *args, "--json", str(path), "--api-key", "secret")
    assert done.returncode == 0
    assert "200 requests/s, constant" in done.stdout
    data = json.loads(path.read_text())
    assert data["figures"]["answered"] == 5
    assert [request["number"] for request in data["requests"]] == [0, 1, 2, 3, 4]
    assert "secret" not in path.read_text() + done.stdout
    alone = bench(server.url, *args, "--json", "-")
    assert json.loads(alone.stdout)["figures"]["answered"] == 5


def test_some_failures_are_told_and_all_of_them_fail(server: ScriptedServer) -> None:
    busy = refusal("429 Too Many Requests", "busy\x1b[2J", "Retry-After: 7")
    server.script = [busy, busy]
    done = bench(server.url, "--requests", "3")
    assert done.returncode == 0
    assert "1 answered, 2 failed" in done.stdout
    assert "2 status 429 (Retry-After of 7 s on 2): busy\N{REPLACEMENT CHARACTER}[2J" in done.stdout
    server.script = [busy] * 3
    assert bench(server.url, "--requests", "3").returncode == 1


def test_ctrl_c_tells_what_there_is(server: ScriptedServer) -> None:
    server.script = [Exchange.answer, Exchange.hold]
    with subprocess.Popen(
        [*COMMAND, server.url, "--requests", "3"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while len(server.bodies) < 2:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    assert "1 answered, 0 failed, 1 unfinished" in out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "URL"),
        (["ftp://h"], "scheme"),
        (["http://h", "--users", "0"], "'0' is not a whole number from 1 on"),
        (["http://h", "--users", "2", "--rate", "3"], "one of them"),
        (["http://h", "--rate", "nan"], "'nan' is not a number greater than 0"),
        (["http://h", "--slo", "speed=3"], "'speed=3'"),
        (["http://h", "--body", "[]"], "--body: a JSON object"),
        (["http://h", "--prompts", "/nowhere"], "/nowhere"),
        (["http://h", "--api-key", "a\nb"], "API key"),
        (["http://h", "--max", "3"], "unrecognized arguments"),
    ],
)
def test_wrong_use(args: list[str], words: str) -> None:
    done = bench(*args)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr.splitlines()[-1]


def test_nobody_is_there() -> None:
    done = bench("http://nobody.invalid")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("pyllama bench: cannot find nobody.invalid: ")


def test_a_file_that_cannot_be_written_is_told_before_the_load(server: ScriptedServer) -> None:
    done = bench(server.url, "--json", "/nowhere/out.json")
    assert done.returncode == 1
    assert "/nowhere/out.json" in done.stderr
    assert not server.bodies


def test_nobody_reads_the_report(server: ScriptedServer) -> None:
    with subprocess.Popen(
        [*COMMAND, server.url, "--requests", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 141


def test_it_needs_no_native_module() -> None:
    heavy = "pyllama._core numpy starlette hypercorn httpx".split()
    code = f"import sys, pyllama.cli.bench; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_option_is_in_the_guide() -> None:
    page = (Path(__file__).parents[2] / "docs" / "benchmarking.md").read_text()
    options = {word.strip("[]") for word in bench("--help").stdout.split() if word.startswith(("--", "[--"))}
    assert len(options) > 20
    assert [option for option in sorted(options - {"--help"}) if f"`{option}" not in page] == []
