"""Make a CUDA toolkit of NVIDIA's packages on the index, so that no image or installer of theirs is needed.

``python packaging/cuda_toolkit.py cuda13 /opt/cuda-13`` prints the compiler's path: what CUDACXX takes.

The packages bring compiler, headers and libraries in one folder. What the linker wants besides is made here:
names without versions, and a stand-in for the driver's library, which comes with the driver alone.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

from backends import Backend, TableError, find_backend

__all__ = ["ToolkitError", "make_toolkit"]


class ToolkitError(Exception):
    """A toolkit cannot be made; the message is one line."""


def make_toolkit(backend: Backend, folder: Path) -> Path:
    """Install what the row names under ``folder`` and return the compiler. Raises ToolkitError."""
    packages = folder / "packages"
    try:
        # --upgrade: a folder that has packages already is brought up to date instead of left as it is.
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade"]
        subprocess.run([*command, "--target", str(packages), *backend.toolkit], check=True, stdout=sys.stderr)
    except subprocess.CalledProcessError as error:
        raise ToolkitError(
            f"pip cannot install {backend.name}'s toolkit: it ended with {error.returncode}"
        ) from None
    return complete_toolkit(packages / "nvidia")


def complete_toolkit(packages: Path) -> Path:
    """Add what the packages lack for a linker and return the compiler. Raises ToolkitError."""
    compilers = list(packages.glob("*/bin/nvcc"))
    if len(compilers) != 1:
        raise ToolkitError(f"expected one nvcc in {packages}, found {len(compilers)}")
    root = compilers[0].parent.parent
    libraries = root / "lib"
    link(root / "lib64", "lib")
    for library in sorted(libraries.glob("*.so.*")):
        link(libraries / (library.name.partition(".so.")[0] + ".so"), library.name)
    stubs = libraries / "stubs"
    stubs.mkdir(exist_ok=True)
    stub = ["-o", str(stubs / "libcuda.so"), "-shared", "-Wl,-soname,libcuda.so.1", "-x", "c", "-"]
    try:
        # A library that lacked the functions would be left out by linkers that look who needs it.
        header = (root / "include" / "cuda.h").read_text(encoding="utf-8", errors="replace")
        found = re.findall(r"\b(cu[A-Z]\w*)\s*\(|^#define\s+cu\w+\s+(cu[A-Z]\w*)", header, re.MULTILINE)
        names = {function or renamed for function, renamed in found}
        source = "\n".join(f"void {name}(void) {{}}" for name in sorted(names))
        subprocess.run([os.environ.get("CC", "cc"), *stub], check=True, input=source, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ToolkitError(f"cannot make a stand-in for the driver's library: {error}") from None
    return compilers[0]


def link(path: Path, target: str) -> None:
    """Make a relative link, again where there is one."""
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def main() -> int:
    parser = argparse.ArgumentParser(description="Make a CUDA toolkit of packages on the index.")
    parser.add_argument("backend", help="a row of packaging/backends.toml that names a toolkit")
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    try:
        backend = find_backend(arguments.backend)
        if not backend.toolkit:
            raise TableError(f"{backend.name} names no toolkit")
        print(make_toolkit(backend, arguments.folder.absolute()))
    except (TableError, ToolkitError) as error:
        print(f"cuda_toolkit: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
