"""Check a finished wheel: what must be in it, what must not, and what its libraries look for.

``python packaging/check_wheel.py cpu wheelhouse/*.whl`` prints one line per problem.
"""

from __future__ import annotations

import argparse
import posixpath
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from backends import Backend, TableError, find_backend, load_backends, this_platform
from wheel_file import Wheel, WheelError, record_line

__all__ = ["check_wheel"]

MODULE = "pyllama/_core/_llama.abi3.so"
EXPORTED = "PyInit__llama"
CORE_LIBRARIES = ("libpyllama-ggml.so", "libpyllama-ggml-base.so")

# What every Linux has that a manylinux tag names.
SYSTEM = re.compile(
    r"lib(c|m|dl|rt|pthread|util|gcc_s|stdc\+\+)\.so\.\d+|ld-linux[\w.-]*\.so\.\d+|linux-vdso\.so\.1"
)
UNWANTED = re.compile(
    r"\.(pyx|pxd|pxi|cpp|h|o|a|cmake|pyc)$|CMakeLists\.txt$|^(tests|bench|csrc|vendor|include|share|bin|cmake)/|/training/"
)
NOTICES = (
    "NOTICE",
    "LICENSE",
    *(
        f"llama.cpp/{name}"
        for name in (
            "LICENSE",
            "licenses/LICENSE-jsonhpp",
            "vendor/cpp-httplib/LICENSE",
            "vendor/hash/xxhash/LICENSE",
        )
    ),
)
BUILD_FOLDER = re.compile(
    rb"(?<![\w./+-])/(?:home|root|build|tmp|project|work|src|__w)/[\w./+-]*?(?:pyllama|llama\.cpp|csrc|ggml)[\w./+-]*"
)


def check_wheel(path: Path, backend: Backend, platform: str | None = None) -> list[str]:
    """Return everything that is wrong with a wheel, one line each."""
    try:
        wheel = Wheel.read(path)
    except WheelError as error:
        return [str(error)]
    problems = [
        *_check_name(wheel, backend),
        *_check_files(wheel),
        *_check_record(wheel),
        *_check_size(path, backend),
    ]
    problems += _check_backends(wheel, backend, platform or this_platform())
    if not wheel.platform.startswith("macosx"):
        problems += _check_libraries(wheel, backend)
        if not backend.is_plugin:
            problems += _check_abi(path)
    return problems


def _check_name(wheel: Wheel, backend: Backend) -> Iterator[str]:
    expected = backend.distribution.replace("-", "_")
    if wheel.distribution != expected:
        yield f"the distribution is {wheel.distribution}, not {expected}"
    tag = ("py3", "none") if backend.is_plugin else ("cp311", "abi3")
    if (wheel.python, wheel.abi) != tag:
        yield f"the tag is {wheel.python}-{wheel.abi}, not {'-'.join(tag)}"
    if "linux_" in wheel.platform and "manylinux" not in wheel.platform and "musllinux" not in wheel.platform:
        yield f"{wheel.platform} is for one machine only: repair the wheel"
    if f"\nName: {backend.distribution}\n" not in wheel.metadata("METADATA"):
        yield f"METADATA does not name {backend.distribution}"
    if backend.is_plugin and f"Requires-Dist: pyllama-engine=={wheel.version}\n" not in wheel.metadata(
        "METADATA"
    ):
        yield f"the plug-in does not need exactly pyllama-engine=={wheel.version}"


def _check_files(wheel: Wheel) -> Iterator[str]:
    for name in wheel.files:
        if UNWANTED.search(name):
            yield f"{name} has no place in a wheel"
    for notice in NOTICES:
        if not {f"{wheel.dist_info}/licenses/{notice}", f"pyllama/licenses/{notice}"} & wheel.files.keys():
            yield f"the licence {notice} is missing"
    if any("/libgomp" in name for name in wheel.files):
        for licence in ("GPL-3.0.txt", "GCC-exception-3.1.txt"):
            if f"{wheel.dist_info}/licenses/libgomp/{licence}" not in wheel.files:
                yield f"libgomp is in it, and its licence {licence} is not"


def _check_record(wheel: Wheel) -> Iterator[str]:
    record = f"{wheel.dist_info}/RECORD"
    lines = set(wheel.metadata("RECORD").splitlines(keepends=True))
    for name, data in wheel.files.items():
        if name != record and record_line(name, data) not in lines:
            yield f"RECORD does not describe {name}"


def _check_size(path: Path, backend: Backend) -> Iterator[str]:
    size = path.stat().st_size / 1e6
    if size > backend.max_mb:
        yield f"{size:.1f} MB are more than the {backend.max_mb:g} of backends.toml"


def _check_backends(wheel: Wheel, backend: Backend, platform: str) -> Iterator[str]:
    """Ggml finds backends by their file names only, so a renamed one is a lost one."""
    libraries = [name for name in wheel.files if name.endswith(".so") and "/lib/" in name]
    for wanted in backend.libraries:
        if not any(posixpath.basename(name) == f"lib{wanted}.so" for name in libraries):
            yield f"the backend lib{wanted}.so is missing"
    for variant in backend.variants.get(platform, []):
        if f"pyllama/lib/libggml-cpu-{variant}.so" not in wheel.files:
            yield f"the CPU variant {variant} is missing"
    for name in libraries:
        if re.search(r"/libggml-.*-[0-9a-f]{8,}\.", name):
            yield f"{name} was renamed by the repair tool"
    if backend.is_plugin:
        for name in wheel.files:
            if not name.startswith(f"{wheel.dist_info}/") and not re.fullmatch(
                r"pyllama/lib/\w+/libggml-[\w-]+\.so", name
            ):
                yield f"{name} has no place in a plug-in: it would be the core's as well"


def _check_libraries(wheel: Wheel, backend: Backend) -> Iterator[str]:
    from elf import read_library

    if not backend.is_plugin and MODULE not in wheel.files:
        yield f"{MODULE} is missing"
    for name, data in wheel.files.items():
        if not data.startswith(b"\x7fELF"):
            continue
        library = read_library(data)
        base, inside = posixpath.basename(name), posixpath.dirname(name)
        ours = ".libs/" not in name  # what the repair tool copied in is not ours to judge
        if name == MODULE and library.exports != (EXPORTED,):
            yield f"{name} exports {len(library.exports)} symbols, not {EXPORTED} alone"
        inner = [each for each in library.exports if not each.startswith(("ggml_", "_Z"))]
        if base.startswith("libggml-cpu-") and inner:
            yield f"{name} exports {inner[0]} and the like, so its linker could leave nothing out"
        if ours and not library.stripped:
            yield f"{name} is not stripped"
        if ours and name != MODULE and library.soname not in ("", base):
            yield f"{name} calls itself {library.soname}"
        for entry in library.rpath:
            if not entry.startswith("$ORIGIN"):
                yield f"{name} looks into {entry}, which is a folder of the machine that built it"
        folder = BUILD_FOLDER.search(data) if ours else None
        if folder:
            yield f"{name} names a folder of the machine that built it: {folder[0].decode(errors='replace')}"
        folders = library.folders(inside)
        for needed in library.needed:
            here = any(posixpath.join(place, needed) in wheel.files for place in folders)
            core = backend.is_plugin and needed in CORE_LIBRARIES and "pyllama/lib" in folders
            if not (here or core or needed in backend.exclude or SYSTEM.fullmatch(needed)):
                yield f"{name} needs {needed}, which is neither in the wheel nor on every system"
        excluded = set(library.needed) & set(backend.exclude)
        if excluded and backend.requires and all(place.startswith("pyllama/") for place in folders):
            yield f"{name} looks into no package of those that bring {', '.join(sorted(excluded))}"


def _check_abi(path: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "abi3audit", "--strict", "--assume-minimum-abi3", "3.11", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        yield f"abi3audit: {error.strerror}"
        return
    if done.returncode != 0:
        lines = (done.stdout + done.stderr).strip().splitlines()
        yield f"abi3audit --strict: {lines[-1].strip() if lines else done.returncode}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Check finished wheels.")
    parser.add_argument("backend", help=f"one of: {', '.join(load_backends())}")
    parser.add_argument("wheels", type=Path, nargs="+", metavar="WHEEL")
    arguments = parser.parse_args()
    try:
        backend = find_backend(arguments.backend)
    except TableError as error:
        print(f"check_wheel: {error}", file=sys.stderr)
        return 1
    count = 0
    for wheel in arguments.wheels:
        for problem in check_wheel(wheel, backend):
            print(f"{wheel.name}: {problem}")
            count += 1
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
