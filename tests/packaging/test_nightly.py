"""The nightly job: what it runs is in the Makefile."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NIGHTLY = (ROOT / ".github" / "workflows" / "nightly.yml").read_text()
TARGETS = re.findall(r"[\w-]+", re.findall(r"target: \[(.*)\]", NIGHTLY)[0])


@pytest.mark.parametrize("target", TARGETS)
def test_each_target_runs_something_with_that_night_s_seed(target: str) -> None:
    done = subprocess.run(
        ["make", "--dry-run", target, "FUZZ_SEED=271", "SOAK_SEED=314"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert ("SEED=314" in done.stdout) == target.startswith("soak")
    assert ("SEED=271" in done.stdout) == target.startswith("fuzz")
