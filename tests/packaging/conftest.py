"""Lets the tests import their helper, and the scripts of packaging/."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "packaging")]
