"""The package as it is installed: one exported symbol, its own ggml libraries, and nobody else's."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

SPEC = importlib.util.find_spec("pyllama._core._llama")  # the file, whether or not it can be imported
assert SPEC is not None
assert SPEC.origin is not None
MODULE = Path(SPEC.origin)
TAG = tomllib.loads((Path(__file__).parents[2] / "vendor/llama.cpp/pin.toml").read_text())["tag"]
LIBRARIES = MODULE.parent.parent / "lib"
SCRIPTS = Path(sysconfig.get_path("scripts"))

needs_elf = pytest.mark.skipif(
    sys.platform != "linux" or not (shutil.which("nm") and shutil.which("readelf")),
    reason="needs ELF and binutils",
)


def dynamic_section(path: Path) -> dict[str, list[str]]:
    """Return the names in a dynamic section, by kind (NEEDED, SONAME, RUNPATH, RPATH)."""
    listing = subprocess.run(["readelf", "-dW", path], check=True, capture_output=True, text=True).stdout
    found: dict[str, list[str]] = {}
    for kind, value in re.findall(r"\((\w+)\)[^\[\n]*\[([^\]]*)\]", listing):
        found.setdefault(kind, []).append(value)
    return found


@needs_elf
def test_exactly_one_symbol_is_exported() -> None:
    listing = subprocess.run(
        ["nm", "--dynamic", "--defined-only", "--format=posix", MODULE],
        check=True,
        capture_output=True,
        text=True,
    )
    assert [line.split()[0] for line in listing.stdout.splitlines()] == ["PyInit__llama"]


@needs_elf
def test_the_module_finds_its_libraries_by_a_relative_path() -> None:
    section = dynamic_section(MODULE)
    assert section.get("RUNPATH", []) + section.get("RPATH", []) == ["$ORIGIN/../lib"]
    ours = {name for name in section["NEEDED"] if "ggml" in name}
    assert {"libpyllama-ggml.so", "libpyllama-ggml-base.so"} <= ours
    for name in ours:
        assert (LIBRARIES / name).is_file()
    assert not any("llama" in name for name in section["NEEDED"] if name not in ours), (
        "llama is linked statically"
    )


def test_ggml_names_the_pinned_tree_and_not_the_checkout() -> None:
    (library,) = LIBRARIES.glob("libpyllama-ggml-base.*")
    commit = ctypes.CDLL(str(library)).ggml_commit
    commit.restype = ctypes.c_char_p
    assert commit() == TAG.encode()


@needs_elf
def test_the_libraries_find_each_other() -> None:
    libraries = sorted(LIBRARIES.glob("*.so"))
    assert libraries
    for library in libraries:
        section = dynamic_section(library)
        assert section.get("SONAME") == [library.name]
        assert section.get("RUNPATH", []) + section.get("RPATH", []) in ([], ["$ORIGIN"])
        for name in section["NEEDED"]:
            assert "ggml" not in name or (LIBRARIES / name).is_file()


def run_elsewhere(tmp_path: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)


def test_info_works_from_another_folder(tmp_path: Path) -> None:
    done = run_elsewhere(tmp_path, str(SCRIPTS / "pyllama"), "info")
    assert done.returncode == 0, done.stderr
    assert TAG in done.stdout
    assert "CPU" in done.stdout


POISON = r"""
#include <stdio.h>
__attribute__((constructor)) static void loaded(void) {
    FILE * marker = fopen("LOADED", "w");
    if (marker) fclose(marker);
}
int ggml_backend_score(void) { return 1000000; }
void * ggml_backend_init(void) { return 0; }
"""


@pytest.fixture
def poisoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with libraries that ggml would load, and that leave the file LOADED behind if anybody does."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("needs a C compiler")
    source = tmp_path / "poison.c"
    source.write_text(POISON)
    first = tmp_path / "libggml-vulkan.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", first, source], check=True)
    for name in ("cuda", "cpu-haswell", "cpu-x64", "cpu", "rpc", "hip", "sycl", "blas"):
        shutil.copy(first, tmp_path / f"libggml-{name}.so")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_poison_works(poisoned: Path) -> None:
    ctypes.CDLL(str(poisoned / "libggml-vulkan.so"))
    assert (poisoned / "LOADED").exists()


@pytest.mark.parametrize(
    "command",
    [
        ["pyllama", "info"],
        ["pyllama-server", "--list-devices"],
        ["pyllama-server", "--device", "none", "--list-devices"],
        ["pyllama-server", "--device", "no-such-device"],
        ["pyllama-server", "--override-tensor", "x=no-such-buffer"],
    ],
)
def test_libraries_in_the_current_folder_are_not_loaded(poisoned: Path, command: list[str]) -> None:
    done = run_elsewhere(poisoned, str(SCRIPTS / command[0]), *command[1:])
    assert not (poisoned / "LOADED").exists()
    assert done.returncode >= 0, f"killed by signal {-done.returncode}"
    assert "Traceback" not in done.stderr
