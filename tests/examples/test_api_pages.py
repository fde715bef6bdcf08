r"""The examples of docs/api/: each ``sh`` block is a curl command, and the block behind it is what it shows.

A page names its server's flags and environment in comments. In ``json`` the members that are
shown must be there, "…" stands for any text, and a list may go on. In ``text`` the lines that are shown must
come, in order.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ENVIRONMENT = re.compile(r"^<!-- environment: (.*) -->$", re.MULTILINE)
FLAGS = re.compile(r"^<!-- flags: (.*) -->$", re.MULTILINE)
PAGES = [
    page
    for page in sorted((Path(__file__).parents[2] / "docs" / "api").glob("*.md"))
    if FLAGS.search(page.read_text())
]
EXAMPLE = re.compile(r"^```sh\n(curl .*?)^```\n```(json|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ADDRESS = "http://127.0.0.1:8080"


@contextmanager
def serving(flags: str, environment: str = "") -> Iterator[str]:
    """Run a server; yield its address."""
    command = [sys.executable, "-P", "-m", "pyllama.cli", "serve", "--port", "0", "--threads", "1"]
    variables = {**os.environ, **dict(word.split("=", 1) for word in shlex.split(environment))}
    command += shlex.split(flags)
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=variables, cwd=folder) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if found := re.search(r"ready on (http://\S+)", line):
                    yield found[1]
                    return
            pytest.fail("the server did not start")
        finally:
            process.terminate()
            process.communicate(timeout=60)


def ask(command: str, address: str) -> str:
    """Do what a curl command does."""
    words = iter(shlex.split(command)[1:])
    body: bytes | None = None
    url = method = None
    headers: dict[str, str] = {}
    for word in words:
        if word == "-d":
            body = next(words).encode()
        elif word == "-H":
            name, _, value = next(words).partition(": ")
            headers[name] = value
        elif word == "-X":
            method = next(words)
        elif word != "-N":
            url = word.replace(ADDRESS, address)
    assert url is not None
    assert url.startswith(address), command
    request = urllib.request.Request(url, body, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return str(response.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode()


def fits(shown: str, text: str) -> bool:
    """Whether a text is what is shown of it."""
    return re.fullmatch(".*".join(map(re.escape, shown.split("…"))), text, re.DOTALL) is not None


def check_json(shown: Any, actual: Any, where: str = "") -> None:
    """Compare what is shown of an answer with the answer."""
    if isinstance(shown, dict):
        assert isinstance(actual, dict), where
        for name, value in shown.items():
            assert name in actual, f"{where}.{name}"
            check_json(value, actual[name], f"{where}.{name}")
    elif isinstance(shown, list):
        assert isinstance(actual, list), where
        assert len(actual) >= len(shown), where
        for i, value in enumerate(shown):
            check_json(value, actual[i], f"{where}[{i}]")
    elif isinstance(shown, str):
        assert isinstance(actual, str), where
        assert fits(shown, actual), (where, shown, actual)
    else:
        assert actual == shown, where


def check_lines(shown: str, actual: str) -> None:
    """Check that the lines that are shown come in this order."""
    lines = iter(actual.splitlines())
    for wanted in shown.splitlines():
        assert any(fits(wanted + "…", line) for line in lines), wanted


def test_there_are_pages() -> None:
    assert len(PAGES) >= 6


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_page(page: Path) -> None:
    text = page.read_text()
    flags = FLAGS.search(text)
    examples = EXAMPLE.findall(text)
    assert flags is not None
    assert examples
    assert len(examples) == text.count("```sh"), "an example shows no answer"
    environment = ENVIRONMENT.search(text)
    with serving(flags[1], environment[1] if environment else "") as address:
        for command, kind, shown in examples:
            answer = ask(command.replace("\\\n", " "), address)
            if kind == "json":
                check_json(json.loads(shown), json.loads(answer), command)
            else:
                check_lines(shown, answer)
