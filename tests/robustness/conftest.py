from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from live_server import LiveServer

if not Path("/proc/self/fd").is_dir():
    collect_ignore_glob = ["test_*.py"]  # what the server holds open is read from /proc


@pytest.fixture(scope="module")
def running() -> Iterator[LiveServer]:
    with LiveServer("--parallel", "2", "--ctx-size", "8192") as server:
        yield server


@pytest.fixture
def server(running: LiveServer) -> Iterator[LiveServer]:
    yield running
    running.close_sockets()
    running.check_settled()
