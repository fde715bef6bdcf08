"""The examples of docs/websocket.md: what follows → is said, and what follows ← must come, in order."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.client import connect

PAGE = Path(__file__).parents[2] / "docs" / "websocket.md"
BLOCK = re.compile(r"<!-- socket: (\S+) -->\n```\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES = BLOCK.findall(PAGE.read_text())


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    command = [sys.executable, "-P", "-m", "pyllama.cli", "serve", "--port", "0", "--threads", "1"]
    with subprocess.Popen([*command, "--ctx-size", "16384"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            said = iter(process.stdout)
            yield next(found[1] for line in said if (found := re.search(r"ready on http://(\S+)", line)))
        finally:
            process.terminate()
            process.communicate(timeout=60)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 4


@pytest.mark.parametrize(("path", "lines"), EXAMPLES)
def test_example(address: str, path: str, lines: str) -> None:
    with connect(f"ws://{address}{path}", max_size=None) as socket:
        for line in lines.splitlines():
            arrow, text = line[0], line[2:]
            if arrow == "→":
                socket.send(text)
                continue
            wanted = re.compile(".*".join(map(re.escape, text.split("…"))), re.DOTALL)
            while wanted.fullmatch(str(socket.recv(timeout=60))) is None:
                pass
