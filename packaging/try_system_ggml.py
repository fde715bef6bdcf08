"""Install the tree's ggml into a prefix, as a distribution would, build the package against it, and use it.

``python packaging/try_system_ggml.py`` takes a ggml with its backends linked;
``python packaging/try_system_ggml.py GGML_NATIVE=OFF GGML_BACKEND_DL=ON`` one that loads them.
The build tools are those of the environment that it runs in, and nothing is downloaded but the dependencies.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from backends import ROOT
from build_wheel import StepError, only_wheel, run

# llama.cpp's copy of ggml is no project of its own: it has no template of ggml's pkg-config file.
PROJECT = """\
cmake_minimum_required(VERSION 3.26)
project(system-ggml C CXX)
add_subdirectory("{ggml}" ggml)
"""
LOOK = """\
import json, pyllama
from pathlib import Path
info = pyllama.build_info()
mapped = {line.split()[-1] for line in open("/proc/self/maps")}
print(json.dumps({"configuration": info["configuration"], "backends": info["backends"],
                  "carried": [path.name for path in Path(pyllama.__path__[0]).rglob("*ggml*.so")],
                  "mapped": sorted(path for path in mapped if "ggml" in Path(path).name)}))
"""


def install_ggml(tree: Path, prefix: Path, build: Path, options: list[str]) -> None:
    source = build / "source"
    source.mkdir(parents=True, exist_ok=True)
    (source / "CMakeLists.txt").write_text(PROJECT.format(ggml=tree / "ggml"))
    environment = dict(os.environ)
    configure = ["cmake", "-S", str(source), "-B", str(build / "out"), "-DCMAKE_BUILD_TYPE=Release"]
    configure += [
        "-DBUILD_SHARED_LIBS=ON",
        f"-DCMAKE_INSTALL_PREFIX={prefix}",
        *(f"-D{name}" for name in options),
    ]
    run("configure ggml", configure, environment)
    run("build ggml", ["cmake", "--build", str(build / "out")], environment)
    run("install ggml", ["cmake", "--install", str(build / "out")], environment)


def build_package(prefix: Path, out: Path, build: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(out),
    ]
    command += ["-C", f"build-dir={build}", "-C", "cmake.define.PYLLAMA_USE_SYSTEM_GGML=ON", str(ROOT)]
    run("build the package", command, {**os.environ, "CMAKE_PREFIX_PATH": str(prefix)})
    return only_wheel(out)


def use(wheel: Path, prefix: Path, folder: Path) -> dict[str, object]:
    """Install the wheel into a clean environment, ask it, and return what was seen. Raises StepError."""
    run("make an environment", [sys.executable, "-m", "venv", str(folder)], dict(os.environ))
    python = str(folder / "bin" / "python")
    run("install the package", [python, "-m", "pip", "install", "--quiet", str(wheel)], dict(os.environ))
    # A distribution's libraries are where the loader looks.
    environment = {**os.environ, "LD_LIBRARY_PATH": f"{prefix}/lib:{prefix}/lib64"}

    def output(*command: str) -> str:
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
        if done.returncode != 0:
            raise StepError(f"{' '.join(command[:3])} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout.strip()

    seen: dict[str, object] = json.loads(output(python, "-c", LOOK))
    seen["wheel_mb"] = round(wheel.stat().st_size / 1e6, 2)
    seen["answer"] = output(str(folder / "bin" / "pyllama"), "run", "What is 17 + 25?", "--temp", "0")
    seen["doctor"] = output(str(folder / "bin" / "pyllama"), "doctor").splitlines()
    if seen["carried"] or not seen["mapped"] or "CPU" not in seen["backends"]:  # type: ignore[operator]
        raise StepError(f"it does not use the system's ggml: {json.dumps(seen)}")
    return seen


def main() -> int:
    parser = argparse.ArgumentParser(description="Build against an installed ggml, and use it.")
    parser.add_argument("options", nargs="*", metavar="NAME=VALUE", help="ggml's CMake options")
    parser.add_argument("--build-dir", type=Path, default=ROOT / "build" / "system-ggml", metavar="DIR")
    arguments = parser.parse_args()
    build = arguments.build_dir.resolve()
    prefix = build / "prefix"
    try:
        with tempfile.TemporaryDirectory(prefix="pyllama-system-ggml-") as scratch:
            out = Path(scratch, "out")
            out.mkdir()
            shutil.rmtree(prefix, ignore_errors=True)  # not the plug-ins of another try
            install_ggml(ROOT / "vendor/llama.cpp/src", prefix, build / "ggml", arguments.options)
            wheel = build_package(prefix, out, build / "package")
            print(json.dumps(use(wheel, prefix, Path(scratch, "venv"))))
    except StepError as error:
        print(f"try_system_ggml: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
