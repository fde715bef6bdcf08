"""Build the source distribution, twice, and compare: the same sources give the same bytes.

``python packaging/sdist.py --out dist`` prints the path. The second build is made of the first, as
another person's would; ``--once`` leaves it out.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from backends import ROOT

# Where SOURCE_DATE_EPOCH says nothing, scikit-build-core takes a fixed time.
BUILD = "from scikit_build_core.build import build_sdist; print(build_sdist({out!r}))"


class SdistError(Exception):
    """One line."""


def build(tree: Path, out: Path) -> Path:
    """Build the sdist of a tree with the build tools that are installed here."""
    command = [sys.executable, "-c", BUILD.format(out=str(out.resolve()))]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True)
    if done.returncode != 0:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise SdistError(f"cannot build it: {lines[-1] if lines else done.returncode}")
    return out.resolve() / done.stdout.splitlines()[-1].strip()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Build the source distribution and check that it can be reproduced."
    )
    parser.add_argument("--out", type=Path, default=Path("dist"), metavar="DIR")
    parser.add_argument("--once", action="store_true", help="do not build it a second time")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    try:
        first = build(ROOT, arguments.out)
        if not arguments.once:
            with tempfile.TemporaryDirectory(prefix="pyllama-sdist-") as scratch:
                # What the first one holds is all that a packager has, so the second is made from it.
                with tarfile.open(first) as archive:
                    archive.extractall(scratch, filter="data")
                (tree,) = Path(scratch).iterdir()
                second = build(tree, Path(scratch, "out"))
                if digest(second) != digest(first):
                    kept = shutil.copy(second, arguments.out / f"second-{second.name}")
                    raise SdistError(f"two builds differ: {first} and {kept}")
    except (SdistError, OSError) as error:
        print(f"sdist: {error}", file=sys.stderr)
        return 1
    print(os.path.relpath(first))
    return 0


if __name__ == "__main__":
    sys.exit(main())
