"""What a build needs and does not find: one line before anything is compiled, which says how to get it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CMAKE = shutil.which("cmake", path=str(Path(sys.executable).parent)) or shutil.which("cmake")

pytestmark = pytest.mark.skipif(CMAKE is None, reason="needs cmake")


def check(
    function: str, tmp_path: Path, *, path: str = "", given: str = "", **variables: str
) -> tuple[int, str]:
    """Call one of the checks as a script, with nothing but `path` to find programs in."""
    assert CMAKE is not None
    script = tmp_path / "check.cmake"
    # find_program and find_path look into the system's folders as well: not here.
    script.write_text(
        'set(CMAKE_FIND_USE_CMAKE_SYSTEM_PATH OFF)\nset(PYLLAMA_SDK_ROOTS "")\n'
        f'{given}\ninclude("{ROOT}/cmake/PyllamaRequirements.cmake")\n{function}()\n'
    )
    environment = {"PATH": path, "HOME": str(tmp_path), **variables}
    done = subprocess.run([CMAKE, "-P", str(script)], env=environment, capture_output=True, text=True)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def programs(folder: Path, *names: str) -> str:
    """Make empty programs in a folder, and return it as a PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    return str(folder)


def assert_stops(result: tuple[int, str], *words: str) -> None:
    code, output = result
    assert code == 1
    assert output.count("pyllama: ") == 1
    assert output.count("CMake Error") == 1
    for word in words:
        assert word in output


def test_no_compiler(tmp_path: Path) -> None:
    assert_stops(
        check("pyllama_require_compilers", tmp_path), "no CXX compiler found", "install g++", "set CXX"
    )


def test_no_c_compiler(tmp_path: Path) -> None:
    path = programs(tmp_path / "bin", "g++")
    assert_stops(check("pyllama_require_compilers", tmp_path, path=path), "no C compiler found", "set CC")


@pytest.mark.parametrize("variable", ["CC", "CXX"])
def test_a_compiler_that_is_not_there(tmp_path: Path, variable: str) -> None:
    path = programs(tmp_path / "bin", "cc", "c++")
    result = check("pyllama_require_compilers", tmp_path, path=path, **{variable: "no-such-compiler -m64"})
    assert_stops(result, "compiler no-such-compiler -m64 is not there", f"set {variable}")


@pytest.mark.parametrize("variables", [{}, {"CC": "ccache gcc -m64", "CXX": "g++"}])
def test_compilers_that_are_there(tmp_path: Path, variables: dict[str, str]) -> None:
    path = programs(tmp_path / "bin", "cc", "c++", "ccache", "gcc", "g++")
    assert check("pyllama_require_compilers", tmp_path, path=path, **variables) == (0, "")


@pytest.mark.parametrize(
    ("version", "options", "words"),
    [
        ("8.5.0", "", ["g++ 8.5.0 is too old", "9 or newer"]),
        ("10.2.1", "set(GGML_CPU_ALL_VARIANTS ON)", ["does not know AMX", "11 or newer"]),
    ],
)
def test_an_old_compiler(tmp_path: Path, version: str, options: str, words: list[str]) -> None:
    given = f"set(CMAKE_CXX_COMPILER_ID GNU)\nset(CMAKE_CXX_COMPILER_VERSION {version})\n{options}\n"
    given += "set(CMAKE_SYSTEM_PROCESSOR x86_64)"
    assert_stops(check("pyllama_require_compiler_versions", tmp_path, given=given), *words)


def test_a_compiler_that_will_do(tmp_path: Path) -> None:
    given = "set(CMAKE_CXX_COMPILER_ID GNU)\nset(CMAKE_CXX_COMPILER_VERSION 10.2.1)"
    assert check("pyllama_require_compiler_versions", tmp_path, given=given) == (0, "")


def test_python_without_headers(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho False /usr/include/python3.99\n")
    python.chmod(0o755)
    given = f'set(PYLLAMA_BUILD_PYTHON ON)\nset(Python_EXECUTABLE "{python}")'
    result = check("pyllama_require_python", tmp_path, path=os.defpath, given=given)
    assert_stops(result, "Python.h is not in /usr/include/python3.99", "python3-dev")
    given = f'set(PYLLAMA_BUILD_PYTHON ON)\nset(Python_EXECUTABLE "{sys.executable}")'
    assert check("pyllama_require_python", tmp_path, path=os.defpath, given=given)[1] == ""


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("GGML_CUDA", ["no nvcc", "CUDA toolkit", "CUDACXX"]),
        ("GGML_VULKAN", ["no glslc", "shaderc"]),
        ("GGML_HIP", ["no hipcc", "ROCM_PATH"]),
        ("GGML_SYCL", ["no icpx", "oneAPI"]),
        ("GGML_OPENCL", ["CL/cl.h is not there", "ocl-icd-opencl-dev"]),
        ("GGML_BLAS", ["finds no BLAS", "libopenblas-dev"]),
        ("GGML_MUSA", ["no MUSA toolkit", "MUSA_PATH"]),
        ("GGML_WEBGPU", ["finds no Dawn", "CMAKE_PREFIX_PATH"]),
        ("GGML_OPENVINO", ["finds no OpenVINO", "CMAKE_PREFIX_PATH"]),
        ("GGML_METAL", ["this is not macOS", "leave GGML_METAL unset"]),
    ],
)
def test_a_backend_without_its_sdk(tmp_path: Path, option: str, words: list[str]) -> None:
    assert_stops(check("pyllama_require_sdks", tmp_path, given=f"set({option} ON)"), f"{option}=ON", *words)


def test_nvcc_alone_is_not_enough(tmp_path: Path) -> None:
    path = programs(tmp_path / "cuda" / "bin", "nvcc")
    result = check("pyllama_require_sdks", tmp_path, path=path, given="set(GGML_CUDA ON)")
    assert_stops(result, "has no cuBLAS", "whole CUDA toolkit")
    header = tmp_path / "cuda" / "targets" / "x86_64-linux" / "include" / "cublas_v2.h"
    header.parent.mkdir(parents=True)
    header.touch()
    assert check("pyllama_require_sdks", tmp_path, path=path, given="set(GGML_CUDA ON)") == (0, "")


def hip_sdk(root: Path, *, gpus: str = "") -> dict[str, str]:
    """Make what the check looks for in ROCm; its agent enumerator tells of `gpus`, a line each."""
    programs(root / "bin", "hipcc", "rocm_agent_enumerator")
    (root / "bin" / "rocm_agent_enumerator").write_text(f"#!/bin/sh\ncat <<'END'\n{gpus}END\n")
    for library in ("hipblas", "rocblas"):
        header = root / "include" / library / f"{library}.h"
        header.parent.mkdir(parents=True)
        header.touch()
    return {"ROCM_PATH": str(root)}


@pytest.mark.parametrize("library", ["hipblas", "rocblas"])
def test_hipcc_alone_is_not_enough(tmp_path: Path, library: str) -> None:
    sdk = hip_sdk(tmp_path / "rocm")
    (tmp_path / "rocm" / "include" / library / f"{library}.h").unlink()
    result = check("pyllama_require_sdks", tmp_path, given="set(GGML_HIP ON)", **sdk)
    assert_stops(result, f"{library}/{library}.h is not there", f"lib{library}-dev", "ROCM_PATH")


@pytest.mark.parametrize("gpus", ["", "gfx000\n"])
def test_hip_for_no_gpu_in_particular(tmp_path: Path, gpus: str) -> None:
    sdk = hip_sdk(tmp_path / "rocm", gpus=gpus)
    result = check("pyllama_require_sdks", tmp_path, path=os.defpath, given="set(GGML_HIP ON)", **sdk)
    assert_stops(result, "no AMD GPU is here to compile for", "GPU_TARGETS=gfx1100")


@pytest.mark.parametrize("named", ["GPU_TARGETS", "AMDGPU_TARGETS", "CMAKE_HIP_ARCHITECTURES"])
def test_hip_for_gpus_that_are_named(tmp_path: Path, named: str) -> None:
    given = f'set(GGML_HIP ON)\nset({named} "gfx1100;gfx1201")'
    assert check("pyllama_require_sdks", tmp_path, given=given, **hip_sdk(tmp_path / "rocm")) == (0, "")


def test_hip_for_the_gpu_at_hand(tmp_path: Path) -> None:
    sdk = hip_sdk(tmp_path / "rocm", gpus="gfx000\ngfx90a:sramecc+:xnack-\n")
    result = check("pyllama_require_sdks", tmp_path, path=os.defpath, given="set(GGML_HIP ON)", **sdk)
    assert result == (0, "")


def test_glslc_alone_is_not_enough(tmp_path: Path) -> None:
    path = programs(tmp_path / "sdk" / "bin", "glslc")
    sdk = {"VULKAN_SDK": str(tmp_path / "sdk")}
    for name, words in (
        ("include/vulkan/vulkan.hpp", "libvulkan-dev"),
        ("lib/libvulkan.so", "libvulkan-dev"),
        ("share/cmake/SPIRV-Headers/SPIRV-HeadersConfig.cmake", "spirv-headers"),
    ):
        assert_stops(
            check("pyllama_require_sdks", tmp_path, path=path, given="set(GGML_VULKAN ON)", **sdk),
            words,
        )
        (tmp_path / "sdk" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sdk" / name).touch()
    assert check("pyllama_require_sdks", tmp_path, path=path, given="set(GGML_VULKAN ON)", **sdk) == (0, "")


def test_no_backend_needs_no_sdk(tmp_path: Path) -> None:
    assert check("pyllama_require_sdks", tmp_path) == (0, "")


def test_a_cmake_that_is_too_old_is_told_first() -> None:
    lines = [line for line in (ROOT / "CMakeLists.txt").read_text().splitlines() if line.strip()]
    assert lines[0].startswith("cmake_minimum_required(VERSION 3.26")


def test_the_build_backend_tells_of_an_old_cmake_in_one_line(tmp_path: Path) -> None:
    old = tmp_path / "cmake"
    version = '{"version": {"string": "3.25.1", "major": 3, "minor": 25, "patch": 1}}'
    old.write_text(f"#!/bin/sh\n[ \"$2\" = capabilities ] && echo '{version}' || echo cmake version 3.25.1\n")
    old.chmod(0o755)
    environment = {
        **os.environ,
        "CMAKE_EXECUTABLE": str(old),
        "PYTHONPATH": str(ROOT / "packaging" / "backend"),
    }
    done = subprocess.run(
        [sys.executable, "-c", f"import pyllama_build; pyllama_build.build_wheel({str(tmp_path)!r})"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("pyllama: Could not find CMake with version >=3.26: ")
    assert "pip install cmake" in done.stderr


def test_a_python_that_is_too_old_is_refused_by_the_metadata() -> None:
    assert 'requires-python = ">=3.11"' in (ROOT / "pyproject.toml").read_text()


SYSTEM_GGML = """
function(pyllama_stop what how)
  message(FATAL_ERROR "pyllama: ${what}: ${how}")
endfunction()
set(PYLLAMA_LLAMA_CPP_TAG b7)
"""


def system_ggml(tmp_path: Path, version: str | None) -> tuple[int, str]:
    """Run the search for a system's ggml with a tree of version 0.26, and an installed one of `version`."""
    assert CMAKE is not None
    tree = tmp_path / "tree" / "ggml"
    tree.mkdir(parents=True)
    (tree / "CMakeLists.txt").write_text(
        "set(GGML_VERSION_MAJOR 0)\nset(GGML_VERSION_MINOR 26)\nset(GGML_VERSION_PATCH 3)\n"
    )
    script = tmp_path / "system.cmake"
    given = f'set(PYLLAMA_LLAMA_CPP_TREE "{tree.parent}")\nset(CMAKE_PREFIX_PATH "{tmp_path}/prefix")\n'
    # A found package defines targets, which a script cannot: the version alone is looked at here.
    script.write_text(f'{SYSTEM_GGML}{given}include("{ROOT}/cmake/PyllamaSystemGgml.cmake")\n')
    if version is not None:
        package = tmp_path / "prefix" / "lib" / "cmake" / "ggml"
        package.mkdir(parents=True)
        (package / "ggml-config.cmake").write_text("")
        (package / "ggml-config-version.cmake").write_text(
            f'set(PACKAGE_VERSION "{version}")\nset(PACKAGE_VERSION_COMPATIBLE ON)\n'
        )
    done = subprocess.run([CMAKE, "-P", str(script)], capture_output=True, text=True)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def test_a_system_without_ggml(tmp_path: Path) -> None:
    assert_stops(system_ggml(tmp_path, None), "CMake finds no ggml", "install ggml 0.26", "CMAKE_PREFIX_PATH")


def test_a_system_with_another_ggml(tmp_path: Path) -> None:
    result = system_ggml(tmp_path, "0.25.1")
    assert_stops(
        result, "the system's ggml is 0.25.1, and llama.cpp b7 is written for 0.26", "PYLLAMA_LLAMA_CPP_DIR"
    )
