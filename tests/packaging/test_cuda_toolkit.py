"""A CUDA toolkit made of packages: what they lack for a linker, and rows that name one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from backends import TABLE, load_backends
from cuda_toolkit import ToolkitError, complete_toolkit
from packaging.requirements import Requirement

SCRIPT = TABLE.with_name("cuda_toolkit.py")


HEADER = """
#define cuMemGetInfo cuMemGetInfo_v2
CUresult CUDAAPI cuMemCreate(CUmemGenericAllocationHandle *handle, size_t size);
CUresult CUDAAPI cuMemGetInfo(size_t *free, size_t *total);
CUresult CUDAAPI cuMemGetInfo_v2(size_t *free, size_t *total);
"""


def made(folder: Path) -> Path:
    """Lay out what NVIDIA's packages bring, as far as names go."""
    root = folder / "nvidia" / "cu13"
    for name in ("bin/nvcc", "lib/libcudart.so.13", "lib/libcublasLt.so.13", "include/cuda.h"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(HEADER if path.suffix == ".h" else "")
    return root


def test_what_a_linker_asks_for_is_there(tmp_path: Path) -> None:
    root = made(tmp_path)
    for _ in range(2):  # in a folder that has one already, too
        assert complete_toolkit(tmp_path / "nvidia") == root / "bin" / "nvcc"
    assert (root / "lib" / "libcudart.so").resolve() == root / "lib" / "libcudart.so.13"
    assert (root / "lib64" / "libcublasLt.so").resolve() == root / "lib" / "libcublasLt.so.13"


@pytest.mark.skipif(shutil.which("readelf") is None, reason="needs binutils")
def test_the_driver_s_library_is_asked_for_at_run_time(tmp_path: Path) -> None:
    root = made(tmp_path)
    complete_toolkit(tmp_path / "nvidia")
    user = tmp_path / "user.so"
    declared = "void cuMemCreate(void); void cuMemGetInfo_v2(void);"
    code = declared + "void f(void) { cuMemCreate(); cuMemGetInfo_v2(); }"
    linking = ["-shared", "-fPIC", "-nostdlib", "-Wl,--as-needed", "-Wl,-z,defs", "-x", "c", "-"]
    subprocess.run(
        ["cc", "-o", str(user), *linking, f"-L{root / 'lib' / 'stubs'}", "-lcuda"],
        check=True,
        input=code,
        text=True,
    )
    shown = subprocess.run(["readelf", "--dynamic", str(user)], check=True, capture_output=True, text=True)
    assert "[libcuda.so.1]" in shown.stdout


def test_packages_without_a_compiler_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ToolkitError, match="expected one nvcc"):
        complete_toolkit(tmp_path)


def test_a_row_without_a_toolkit_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "vulkan", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "cuda_toolkit: vulkan names no toolkit\n")


def test_a_toolkit_brings_what_its_plugin_needs() -> None:
    for backend in load_backends().values():
        toolkit = {Requirement(each).name for each in backend.toolkit}
        needed = {Requirement(each).name for each in backend.requires}
        assert not toolkit or needed <= toolkit, backend.name
