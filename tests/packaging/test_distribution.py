"""What the distribution is called is said once."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pyllama.version import DISTRIBUTION

ROOT = Path(__file__).parents[2]


def test_the_name_is_the_project_s() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["name"] == DISTRIBUTION


def test_nothing_else_in_the_package_depends_on_it() -> None:
    told = "pip install"  # to a person
    for path in (ROOT / "pyllama").rglob("*.py"):
        for line in path.read_text().splitlines():
            if f'"{DISTRIBUTION}"' in line or (DISTRIBUTION in line and told not in line):
                assert path.name == "version.py", f"{path}: {line}"
