from __future__ import annotations

import sys
from pathlib import Path

# Helpers are plain modules beside the tests; the tiny models are those of the low-level tests.
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "core")]
