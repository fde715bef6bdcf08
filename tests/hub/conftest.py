from __future__ import annotations

import sys
from pathlib import Path

# The helpers beside the tests are plain modules; the tests are imported by file, not by package.
sys.path.insert(0, str(Path(__file__).parent))
