"""The hand-written stub of the extension module agrees with the module itself."""

import subprocess
import sys
from pathlib import Path

ALLOWLIST = Path(__file__).with_name("allowlist.txt")


def test_stubtest() -> None:
    command = [
        sys.executable,
        "-m",
        "mypy.stubtest",
        "pyllama._core._llama",
        "--allowlist",
        str(ALLOWLIST),
        "--ignore-unused-allowlist",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr
