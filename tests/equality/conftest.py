from __future__ import annotations

import sys
from pathlib import Path

import pytest

# The tiny models are those of the low-level tests.
sys.path.insert(0, str(Path(__file__).parents[1] / "core"))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
