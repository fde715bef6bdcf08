"""Our source distribution carries what a build needs, the fetched tree included, and no more."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TREE = "vendor/llama.cpp/src"

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("scikit_build_core") is None or not (ROOT / TREE / "CMakeLists.txt").is_file(),
    reason="needs the build tools and the fetched tree",
)


def build_files() -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in ROOT.glob("build/cp*/CMakeCache.txt")}


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    out = tmp_path_factory.mktemp("sdist")
    script = ROOT / "packaging" / "sdist.py"  # which builds it again from itself, and compares
    before = build_files()
    done = subprocess.run([sys.executable, str(script), "--out", str(out)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert build_files() == before, "making an sdist configured the build folder of the wheel"
    (archive,) = out.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        return {name.partition("/")[2] for name in tar.getnames()}


@pytest.mark.parametrize(
    "name",
    [
        "CMakeLists.txt",
        "LICENSE",
        "NOTICE",
        "cmake/PyllamaFetch.cmake",
        "packaging/backends.toml",
        "packaging/build_wheel.py",
        "packaging/licenses/GPL-3.0.txt",
        "csrc/exit_shim.h",
        "pyllama/_core/_llama.pyx",
        "pyllama/models/pyllama-demo.gguf",
        "vendor/llama.cpp/fetch.py",
        "vendor/llama.cpp/pin.toml",
        f"{TREE}/LICENSE",
        f"{TREE}/common/arg.cpp",
        f"{TREE}/ggml/src/ggml-cpu/ops.cpp",
        f"{TREE}/ggml/src/ggml-cuda/common.cuh",
        f"{TREE}/src/llama.cpp",
        f"{TREE}/tools/mtmd/clip.cpp",
        f"{TREE}/vendor/nlohmann/json.hpp",
    ],
)
def test_what_a_build_needs_is_in(names: set[str], name: str) -> None:
    assert name in names


def test_the_whole_checked_tree_is_in(names: set[str]) -> None:
    spec = importlib.util.spec_from_file_location("fetch_for_sdist", ROOT / "vendor/llama.cpp/fetch.py")
    assert spec is not None
    assert spec.loader is not None
    fetch = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = fetch
    spec.loader.exec_module(fetch)
    for top in fetch.COMPILED:
        base = ROOT / TREE / top
        files = [base] if base.is_file() else [path for path in base.rglob("*") if path.is_file()]
        missing = {path.relative_to(ROOT).as_posix() for path in files if path.suffix != ".pyc"} - names
        assert not missing


@pytest.mark.parametrize(
    "folder",
    [
        f"{TREE}/tools/server",
        f"{TREE}/models",
        f"{TREE}/docs",
        "build",
        ".venv",
        "bench",
        "shared",
        ".git",
        ".github",
    ],
)
def test_the_rest_is_left_out(names: set[str], folder: str) -> None:
    assert not [name for name in names if name.startswith(f"{folder}/")]
