"""Install a wheel into a clean environment away from the sources, on each Python given, and use it.

``python packaging/try_wheel.py wheelhouse/pyllama_engine-*.whl --python python3.11 --python python3.13``

For each Python: what `pyllama info` reports, an answer of the demo model, what an import costs; the same
text on each device as on the CPU; then with each CPU variant that this machine can run, all others hidden.
It prints one line of JSON per try. A core and its plug-ins are given together:

``python packaging/try_wheel.py wheelhouse/*.whl --set GGML_VK_VISIBLE_DEVICES=0``
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

QUESTION, ANSWER = "What is 17 + 25?", "42"

# Long enough for a wrong kernel to lead the text astray.
LONG = ("Tell me a story about a cat.", "--temp", "0", "-n", "128", "--seed", "1")

# Peak memory and time of an import, alone and with the compiled module. The best of several counts: what else
# the machine does only adds.
IMPORT_COST = """
import json, resource, subprocess, sys, time
if len(sys.argv) > 1:
    unit = 1 if sys.platform == "darwin" else 1024
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
    start = time.perf_counter(); import pyllama; spent = time.perf_counter() - start; memory = peak()
    pyllama.Model; print(json.dumps([spent * 1000, memory, (time.perf_counter() - start) * 1000, peak()]))
else:
    runs = [json.loads(subprocess.check_output([sys.executable, __file__, "x"])) for _ in range(5)]
    names = "import_ms", "import_mb", "with_module_ms", "with_module_mb"
    print(json.dumps({name: round(min(column), 1) for name, column in zip(names, zip(*runs))}))
"""


class TryError(Exception):
    """A try failed; the message says which and how."""


class Environment:
    """A clean virtual environment with the wheels in it."""

    def __init__(self, python: str, folder: Path, wheels: list[Path], variables: dict[str, str]) -> None:
        self.folder = folder
        self._variables = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("PYTHON", "LLAMA_", "GGML_"))
        } | variables
        subprocess.run([python, "-m", "venv", folder / "venv"], check=True)
        self.run(
            "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *map(str, wheels)
        )
        self.library = (
            Path(self.run("python", "-c", "import pyllama; print(pyllama.__path__[0])").strip()) / "lib"
        )

    def run(self, program: str, *arguments: str) -> str:
        """Run a program of the environment from its own folder; return what it printed."""
        command = [str(self.folder / "venv" / "bin" / program), *arguments]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self._variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise TryError(
                f"{' '.join([program, *arguments])} ended with {done.returncode}: {done.stderr.strip()}"
            )
        return done.stdout

    def info(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("pyllama", "info", "--json"))
        return found

    def answer(self) -> str:
        return self.run("pyllama", "run", QUESTION, "--temp", "0")

    def text_on(self, device: str) -> str:
        return self.run("pyllama", "run", *LONG, "--device", device, "-ngl", "99")

    @contextmanager
    def only(self, variant: str) -> Iterator[None]:
        """Hide every other CPU variant."""
        others = [
            path for path in self.library.glob("libggml-cpu-*.so") if path.stem != f"libggml-cpu-{variant}"
        ]
        for path in others:
            path.rename(path.with_suffix(".off"))
        try:
            yield
        finally:
            for path in others:
                path.with_suffix(".off").rename(path)


def check(environment: Environment, expected: str | None) -> dict[str, Any]:
    """Use the package once; return what was seen. Raises TryError."""
    info = environment.info()
    library = info["libraries"].get("CPU", "")
    if expected is not None and library != f"libggml-cpu-{expected}.so":
        raise TryError(f"{library} was loaded where only {expected} was left")
    text = environment.answer()
    if ANSWER not in text:
        raise TryError(f"asked {QUESTION!r} with {library}, the demo model answers {text!r}")
    return {"backends": info["backends"], "cpu": library, "answer": text.strip()}


def check_devices(environment: Environment) -> None:
    """Compare the text that each device writes with the CPU's."""
    devices = [device for device in environment.info()["devices"] if device["kind"] in ("GPU", "iGPU")]
    here = environment.text_on("none") if devices else ""
    for device in devices:
        there = environment.text_on(device["name"])
        if there != here:
            raise TryError(f"{device['name']} writes {there!r}, and the CPU {here!r}")
        seen = {key: device[key] for key in ("name", "description", "kind", "backend")}
        print(json.dumps({"device": seen, "text": "the CPU's", "characters": len(there)}), flush=True)


def check_plugin_folders(environment: Environment) -> None:
    """Move a backend to where a plug-in's wheel would put it: found under the core's own tag only."""
    plugin = environment.library / "libggml-rpc.so"
    if not plugin.is_file():
        return
    tag = environment.info()["llama_cpp"]
    for folder, wanted in ((environment.library / "b0", False), (environment.library / tag, True)):
        made = not folder.exists()  # that of the own tag is there where a plug-in is installed
        folder.mkdir(exist_ok=True)
        moved = plugin.rename(folder / plugin.name)
        try:
            if ("RPC" in environment.info()["backends"]) != wanted:
                raise TryError(f"a backend in lib/{folder.name} is {'not loaded' if wanted else 'loaded'}")
        finally:
            moved.rename(plugin)
            if made:
                folder.rmdir()
    print(json.dumps({"plugin_folder": f"lib/{tag}"}), flush=True)


def try_python(python: str, wheels: list[Path], variables: dict[str, str], every_variant: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="pyllama-try-") as scratch:
        environment = Environment(python, Path(scratch), wheels, variables)
        script = Path(scratch, "cost.py")
        script.write_text(IMPORT_COST)
        cost = json.loads(environment.run("python", str(script)))
        print(json.dumps({"python": python, **check(environment, None), **cost}), flush=True)
        check_devices(environment)
        check_plugin_folders(environment)
        if not every_variant:
            return
        for path in sorted(environment.library.glob("libggml-cpu-*.so")):
            variant = path.stem.removeprefix("libggml-cpu-")
            with environment.only(variant):
                # A variant that the CPU cannot run says so itself, and then there is no CPU backend at all.
                if "CPU" in environment.info()["backends"]:
                    print(json.dumps({"variant": variant, **check(environment, variant)}), flush=True)
                else:
                    print(json.dumps({"variant": variant, "cpu": "cannot run it"}), flush=True)


def setting(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not (name and sign):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def main() -> int:
    parser = argparse.ArgumentParser(description="Install wheels into clean environments, and use them.")
    parser.add_argument("wheels", type=Path, nargs="+", metavar="WHEEL")
    parser.add_argument(
        "--python", action="append", metavar="PYTHON", help="an interpreter; this one by default"
    )
    parser.add_argument(
        "--every-variant", action="store_true", help="with each CPU variant, too (the first Python)"
    )
    parser.add_argument(
        "--set",
        type=setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an environment variable",
    )
    arguments = parser.parse_args()
    variables = dict(arguments.set)
    wheels = [wheel.resolve() for wheel in arguments.wheels]
    try:
        for index, python in enumerate(arguments.python or [sys.executable]):
            try_python(python, wheels, variables, arguments.every_variant and index == 0)
    except (TryError, OSError, subprocess.CalledProcessError) as error:
        print(f"try_wheel: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
