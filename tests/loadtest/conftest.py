"""Lets the tests import their helper, and gives them servers that do as they are told."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from scripted_server import ScriptedServer


@pytest.fixture
def serve() -> Iterator[Callable[..., ScriptedServer]]:
    servers: list[ScriptedServer] = []

    def start(*script: Any, **options: Any) -> ScriptedServer:
        servers.append(ScriptedServer(*script, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()
