"""Build llama-server or llama-bench from the vendored tree, with the flags of our own source build.

Run as ``python -m bench.reference``; a second run with nothing changed takes a second.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

from bench.paths import PIN, REFERENCE_BENCH, REFERENCE_BUILD, REFERENCE_SERVER, ROOT, VENDORED_TREE

# Release, the host's instruction set and OpenMP as in pyllama's native configuration. The web page, TLS and
# subprocesses are left out on both sides. One static executable starts fastest, which favours the reference.
FLAGS: dict[str, str] = {
    "CMAKE_BUILD_TYPE": "Release",
    "GGML_NATIVE": "ON",
    "GGML_OPENMP": "ON",
    "GGML_CCACHE": "OFF",
    "BUILD_SHARED_LIBS": "OFF",
    "LLAMA_OPENSSL": "OFF",
    "LLAMA_SUBPROCESS": "OFF",
    "LLAMA_LLGUIDANCE": "OFF",
    "LLAMA_BUILD_UI": "OFF",
    "LLAMA_USE_PREBUILT_UI": "OFF",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_APP": "OFF",
    "LLAMA_BUILD_TOOLS": "ON",
    "LLAMA_BUILD_SERVER": "ON",
    "MTMD_VIDEO": "OFF",
    # Without it a quantised model ends the process on a CPU with AMX (see there); a no-op elsewhere.
    "CMAKE_CXX_FLAGS": f"-include {ROOT / 'csrc/amx_shim.h'}",
}


def build_number(pin: Path = PIN) -> str:
    """Return the digits of the pinned build tag ("b11549" gives "11549")."""
    match = re.search(r'^tag\s*=\s*"b(\d+)"', pin.read_text(encoding="utf-8"), re.MULTILINE)
    if match is None:
        raise ValueError(f"{pin} names no build tag")
    return match.group(1)


def configure_command(source: Path, build: Path, openmp: bool, launcher: str | None) -> list[str]:
    """Return CMake's configure command line."""
    number = build_number()
    flags = FLAGS | {
        "GGML_OPENMP": "ON" if openmp else "OFF",
        "LLAMA_BUILD_NUMBER": number,
        "LLAMA_BUILD_COMMIT": f"b{number}",
    }
    command = ["cmake", "-S", str(source), "-B", str(build), "-G", "Ninja"]
    command += [f"-D{name}={value}" for name, value in flags.items()]
    if launcher:
        wrapped = f"cmake;-E;env;CCACHE_BASEDIR={ROOT};CCACHE_NOHASHDIR=1;{launcher}"
        command += [f"-DCMAKE_{language}_COMPILER_LAUNCHER={wrapped}" for language in ("C", "CXX")]
    return command


def build_reference(
    source: Path = VENDORED_TREE,
    build: Path = REFERENCE_BUILD,
    *,
    openmp: bool = True,
    jobs: int = 2,
    launcher: str | None = None,
    target: str = REFERENCE_SERVER.name,
) -> Path:
    """Configure and build a program of llama.cpp, and return its path.

    Raises:
        FileNotFoundError: The vendored tree has not been fetched.
        subprocess.CalledProcessError: CMake failed; its output is on the terminal.
    """
    if not (source / "CMakeLists.txt").is_file():
        raise FileNotFoundError(f"no llama.cpp tree at {source}: run vendor/llama.cpp/fetch.py first")
    subprocess.run(configure_command(source, build, openmp, launcher), check=True)
    subprocess.run(["cmake", "--build", str(build), "--target", target, f"-j{jobs}"], check=True)
    return build / REFERENCE_SERVER.relative_to(REFERENCE_BUILD).with_name(target)


def main() -> int:
    """Build a reference program from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, default=VENDORED_TREE, help="llama.cpp tree")
    parser.add_argument("--build", type=Path, default=REFERENCE_BUILD, help="build directory")
    parser.add_argument("--no-openmp", action="store_true", help="build with ggml's own thread pool")
    parser.add_argument("--jobs", type=int, default=2, help="compilers at a time")
    parser.add_argument(
        "--target", default=REFERENCE_SERVER.name, choices=(REFERENCE_SERVER.name, REFERENCE_BENCH.name)
    )
    parser.add_argument("--launcher", help="compiler launcher, e.g. ccache")
    args = parser.parse_args()
    try:
        program = build_reference(
            args.source,
            args.build,
            openmp=not args.no_openmp,
            jobs=args.jobs,
            launcher=args.launcher,
            target=args.target,
        )
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"the reference build failed (exit status {error.returncode})", file=sys.stderr)
        return 1
    print(program)
    return 0


if __name__ == "__main__":
    sys.exit(main())
