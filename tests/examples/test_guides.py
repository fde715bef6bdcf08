"""The guides' own code: the ``python`` blocks of a page, in order, as one program beside a ``model.gguf``."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pyllama.models import demo_model_path

GUIDES = sorted((Path(__file__).parents[2] / "docs" / "guide").glob("*.md"))
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_there_are_guides() -> None:
    assert len(GUIDES) >= 3


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_guide(guide: Path, tmp_path: Path) -> None:
    blocks = BLOCK.findall(guide.read_text())
    assert len(blocks) >= 6
    (tmp_path / "model.gguf").symlink_to(demo_model_path())
    (tmp_path / "guide.py").write_text("\n".join(blocks))
    done = subprocess.run(
        [sys.executable, "-P", "guide.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
