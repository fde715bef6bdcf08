"""A backend taken out of a whole wheel: its files, what it needs, and the same bytes each time."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("elftools")
if sys.platform != "linux":
    pytest.skip("needs ELF", allow_module_level=True)

from backends import Backend
from check_wheel import check_wheel
from elf import read_library
from made_wheel import COMPILER, Made, make_core
from plugin_wheel import make_plugin
from wheel_file import Wheel, WheelError

pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")

VULKAN = Backend(
    name="vulkan",
    kind="plug-in",
    distribution="pyllama-engine-vulkan",
    platforms=("linux-x86_64",),
    options=("GGML_VULKAN=ON",),
    libraries=("ggml-vulkan",),
    exclude=("libvulkan.so.1",),
    max_mb=1.0,
    image="i",
    requires=("some-runtime>=1",),
)


@pytest.fixture
def core(tmp_path: Path) -> Made:
    return make_core(tmp_path)


def test_holds_the_backend_in_the_folder_of_its_llama_cpp(core: Made, tmp_path: Path) -> None:
    path = make_plugin(core.write(), VULKAN, tmp_path / "out")
    assert path.name == "pyllama_engine_vulkan-0.1.0-py3-none-manylinux_2_28_x86_64.whl"
    wheel = Wheel.read(path)
    outside = [name for name in wheel.files if not name.startswith(wheel.dist_info)]
    assert outside == ["pyllama/lib/b7/libggml-vulkan.so"]
    assert wheel.files[outside[0]] == core.files["pyllama/lib/libggml-vulkan.so"]
    assert "Tag: py3-none-manylinux_2_28_x86_64\n" in wheel.metadata("WHEEL")


def test_needs_the_core_of_its_version(core: Made, tmp_path: Path) -> None:
    metadata = Wheel.read(make_plugin(core.write(), VULKAN, tmp_path / "out")).metadata("METADATA")
    assert "Name: pyllama-engine-vulkan\n" in metadata
    assert "Requires-Dist: pyllama-engine==0.1.0\n" in metadata
    assert "Requires-Dist: some-runtime>=1\n" in metadata


def test_passes_its_own_check(core: Made, tmp_path: Path) -> None:
    assert check_wheel(make_plugin(core.write(), VULKAN, tmp_path / "out"), VULKAN) == []


def test_finds_the_packages_beside_it_from_its_own_folder(core: Made, tmp_path: Path) -> None:
    rpath = "$ORIGIN:$ORIGIN/..:$ORIGIN/../../nvidia/cu13/lib"
    brought = core.library("libvulkan.so.1", "libvulkan.so.1")
    del core.files["libvulkan.so.1"]
    core.library("libggml-vulkan.so", "pyllama/lib/libggml-vulkan.so", rpath=rpath, links=(brought,))
    path = make_plugin(core.write(), VULKAN, tmp_path / "out")
    library = read_library(Wheel.read(path).files["pyllama/lib/b7/libggml-vulkan.so"])
    assert library.folders("pyllama/lib/b7") == ["pyllama/lib/b7", "pyllama/lib", "nvidia/cu13/lib"]
    assert check_wheel(path, VULKAN) == []
    core.library("libggml-vulkan.so", "pyllama/lib/libggml-vulkan.so", links=(brought,))
    (problem,) = check_wheel(make_plugin(core.write(), VULKAN, tmp_path / "blind"), VULKAN)
    assert "looks into no package of those that bring libvulkan.so.1" in problem


def test_a_library_of_the_repair_tool_is_not_left_behind_unnoticed(core: Made, tmp_path: Path) -> None:
    copied = core.library("libz-1234.so.1", "pyllama_engine.libs/libz-1234.so.1")
    core.library("libggml-vulkan.so", "pyllama/lib/libggml-vulkan.so", links=(copied,))
    (problem,) = check_wheel(make_plugin(core.write(), VULKAN, tmp_path / "out"), VULKAN)
    assert "needs libz-1234.so.1" in problem


def test_the_same_wheel_gives_the_same_bytes(core: Made, tmp_path: Path) -> None:
    whole = core.write()
    first, second = (make_plugin(whole, VULKAN, tmp_path / name) for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_a_whole_wheel_without_the_backend_is_refused(core: Made, tmp_path: Path) -> None:
    with pytest.raises(
        WheelError, match=r"has no pyllama/lib/libggml-cuda\.so: was it built with GGML_CUDA=ON"
    ):
        make_plugin(
            core.write(),
            replace(VULKAN, libraries=("ggml-cuda",), options=("GGML_CUDA=ON",)),
            tmp_path / "out",
        )


def test_a_wheel_of_somebody_else_is_refused(core: Made, tmp_path: Path) -> None:
    del core.files["pyllama/licenses/llama.cpp.txt"]
    with pytest.raises(WheelError, match=r"does not say which llama\.cpp"):
        make_plugin(core.write(), VULKAN, tmp_path / "out")


def test_a_llama_cpp_of_one_s_own_has_no_plugins(core: Made, tmp_path: Path) -> None:
    core.files["pyllama/licenses/llama.cpp.txt"] = b"custom\n"
    with pytest.raises(WheelError, match="no core could know its plug-in"):
        make_plugin(core.write(), VULKAN, tmp_path / "out")
