"""Which GPUs CUDA's code is compiled for: this machine's, unless somebody says otherwise."""

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


def architectures(tmp_path: Path, *, smi: str | None = "echo 9.0", given: str = "", env: str = "") -> str:
    """Return CMAKE_CUDA_ARCHITECTURES after the choice, with an nvidia-smi that does what `smi` says."""
    assert CMAKE is not None
    programs = tmp_path / "bin"
    programs.mkdir()
    if smi is not None:
        (programs / "nvidia-smi").write_text(f"#!/bin/sh\n{smi}\n")
        (programs / "nvidia-smi").chmod(0o755)
    script = tmp_path / "choose.cmake"
    # find_program looks into the system's folders as well: not here.
    script.write_text(
        f"set(CMAKE_FIND_USE_CMAKE_SYSTEM_PATH OFF)\nset(GGML_CUDA ON)\n{given}\n"
        f'include("{ROOT}/cmake/PyllamaGpus.cmake")\nmessage("chosen: ${{CMAKE_CUDA_ARCHITECTURES}}.")\n'
    )
    path = os.pathsep.join((str(programs), *(() if smi is None else (os.defpath,))))
    environment = {"PATH": path, "HOME": str(tmp_path), "CUDAARCHS": env}
    done = subprocess.run([CMAKE, "-P", str(script)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0
    return done.stderr.partition("chosen: ")[2].strip().removesuffix(".")


@pytest.mark.parametrize(
    ("smi", "expected"),
    [("echo 9.0", "90-real"), (r"printf '8.9\n12.0\n8.9\n'", "89-real;120-real")],
)
def test_this_machine_s(tmp_path: Path, smi: str, expected: str) -> None:
    assert architectures(tmp_path, smi=smi) == expected


def test_the_driver_is_asked_for_the_capability(tmp_path: Path) -> None:
    smi = 'case "$*" in "--query-gpu=compute_cap --format=csv,noheader") echo 7.5;; esac'
    assert architectures(tmp_path, smi=smi) == "75-real"


@pytest.mark.parametrize(
    "smi",
    [
        None,
        "echo 'No devices were found'",
        "echo 'NVIDIA-SMI has failed' >&2; exit 9",
        "echo 'Field \"compute_cap\" is not a valid field to query.'; exit 2",
    ],
    ids=["no driver", "no device", "driver without a kernel", "old driver"],
)
def test_a_machine_without_a_gpu_leaves_it_to_ggml(tmp_path: Path, smi: str | None) -> None:
    assert architectures(tmp_path, smi=smi) == ""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("set(GGML_NATIVE OFF)", ""),
        ("set(CMAKE_CUDA_ARCHITECTURES 89-real)", "89-real"),
        ("set(GGML_CUDA OFF)", ""),
    ],
)
def test_what_is_said_decides(tmp_path: Path, given: str, expected: str) -> None:
    assert architectures(tmp_path, given=given) == expected


def test_cmake_s_own_variable_decides(tmp_path: Path) -> None:
    assert architectures(tmp_path, env="90") == ""
