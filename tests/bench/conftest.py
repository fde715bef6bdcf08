"""The benchmark is no part of the installed package: its tests import it from the repository."""

from __future__ import annotations

import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]

# At the end, so that the installed pyllama is found before the source folder of that name.
sys.path += [str(_ROOT), str(_ROOT / "tests" / "loadtest")]
