"""Small wheels that look like ours, to be damaged in one way each."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from wheel_file import Wheel, write_wheel

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
PLATFORM = "manylinux_2_28_x86_64"
VERSION = "0.1.0"
DIST_INFO = f"pyllama_engine-{VERSION}.dist-info"
MODULE = "pyllama/_core/_llama.abi3.so"


def compile_library(
    folder: Path,
    name: str,
    *,
    code: str = "int ggml_nothing;",
    rpath: str = "$ORIGIN",
    links: tuple[Path, ...] = (),
    strip: bool = True,
) -> bytes:
    """Compile a shared library without the C library, and return its bytes."""
    assert COMPILER is not None
    folder.mkdir(parents=True, exist_ok=True)
    source, target = folder / "source.c", folder / name
    source.write_text(code)
    command = [COMPILER, "-shared", "-fPIC", "-nostdlib", "-Wl,--no-as-needed", f"-Wl,-soname,{name}"]
    command += [f"-Wl,-rpath,{rpath}"] if rpath else []
    command += ["-s"] if strip else ["-g"]
    subprocess.run([*command, "-o", target, source, *links], cwd=folder, check=True)
    return target.read_bytes()


@dataclass
class Made:
    """A core wheel's files, to be changed before it is written."""

    folder: Path
    files: dict[str, bytes] = field(default_factory=dict)
    name: str = f"pyllama_engine-{VERSION}-cp311-abi3-{PLATFORM}.whl"

    def library(self, name: str, path: str, **options: object) -> Path:
        self.files[path] = compile_library(self.folder / "libraries", name, **options)  # type: ignore[arg-type]
        return self.folder / "libraries" / name

    def write(self) -> Path:
        out = self.folder / "wheels"
        out.mkdir(exist_ok=True)
        write_wheel(out / self.name, self.files, DIST_INFO, 0)
        return out / self.name

    def damage(self, path: Path, name: str, data: bytes) -> Path:
        """Write a wheel again with a file that RECORD describes otherwise."""
        wheel = Wheel.read(path)
        import zipfile

        with zipfile.ZipFile(path, "w") as archive:
            for each, content in wheel.files.items():
                archive.writestr(each, data if each == name else content)
        return path


def make_core(folder: Path) -> Made:
    """Make a whole wheel with two CPU variants, RPC and Vulkan in it."""
    made = Made(folder)
    base = made.library("libpyllama-ggml-base.so", "pyllama/lib/libpyllama-ggml-base.so")
    ggml = made.library("libpyllama-ggml.so", "pyllama/lib/libpyllama-ggml.so", links=(base,))
    for name in ("cpu-x64", "cpu-haswell", "rpc", "vulkan"):
        made.library(
            f"libggml-{name}.so", f"pyllama/lib/libggml-{name}.so", links=(base,), rpath="$ORIGIN:$ORIGIN/.."
        )
    made.library(
        "_llama.abi3.so",
        MODULE,
        code="int PyInit__llama(void) { return 0; }",
        rpath="$ORIGIN/../lib",
        links=(base, ggml),
    )
    texts = {
        "pyllama/__init__.py": "",
        "pyllama/licenses/llama.cpp.txt": "b7\n",
        "pyllama/licenses/llama.cpp/LICENSE": "MIT",
        "pyllama/licenses/llama.cpp/licenses/LICENSE-jsonhpp": "MIT",
        "pyllama/licenses/llama.cpp/vendor/cpp-httplib/LICENSE": "MIT",
        "pyllama/licenses/llama.cpp/vendor/hash/xxhash/LICENSE": "BSD",
        f"{DIST_INFO}/METADATA": "Metadata-Version: 2.4\nName: pyllama-engine\nVersion: 0.1.0\n"
        "License-File: LICENSE\nLicense-File: NOTICE\n",
        f"{DIST_INFO}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: cp311-abi3-{PLATFORM}\n",
        f"{DIST_INFO}/licenses/LICENSE": "MIT",
        f"{DIST_INFO}/licenses/NOTICE": "notice",
    }
    made.files |= {name: text.encode() for name, text in texts.items()}
    return made
