from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

for folder in ("client", "robustness"):
    sys.path.insert(0, str(Path(__file__).parents[1] / folder))

from live_server import LiveServer  # noqa: E402


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with LiveServer("--parallel", "2", "--ctx-size", "196608", "--api-key", "right", key="right") as server:
        yield server
