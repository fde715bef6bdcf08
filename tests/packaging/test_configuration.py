"""The build's two configurations: what is asked for decides, and a contradiction is one line."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "cmake" / "PyllamaConfiguration.cmake"
GGML = ROOT / "vendor" / "llama.cpp" / "src" / "ggml" / "src" / "CMakeLists.txt"
CMAKE = shutil.which("cmake", path=str(Path(sys.executable).parent)) or shutil.which("cmake")

pytestmark = pytest.mark.skipif(CMAKE is None, reason="needs cmake")


def configure(*options: str) -> tuple[int, str]:
    """Run the choice alone, as a script; return the exit code and the output on one line."""
    assert CMAKE is not None
    command = [CMAKE, *(f"-D{option}" for option in options), "-P", str(SCRIPT)]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize(
    ("options", "configuration"),
    [
        ([], "native"),
        (["GGML_NATIVE=OFF"], "native"),
        (["GGML_CUDA=OFF", "GGML_BACKEND_DL=OFF"], "native"),
        (["GGML_BACKEND_DL=ON"], "plug-in"),
        (["GGML_CPU_ALL_VARIANTS=ON"], "plug-in"),
        (["GGML_CUDA=ON"], "plug-in"),
        (["GGML_RPC=ON", "GGML_NATIVE=OFF"], "plug-in"),
    ],
)
def test_what_is_asked_for_decides(options: list[str], configuration: str) -> None:
    assert configure(*options) == (0, f"-- pyllama configuration: {configuration}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["GGML_CUDA=ON", "GGML_BACKEND_DL=OFF"], "GGML_CUDA needs GGML_BACKEND_DL=ON"),
        (
            ["GGML_CUDA=ON", "GGML_RPC=ON", "GGML_BACKEND_DL=OFF"],
            "GGML_CUDA, GGML_RPC needs",
        ),
        (
            ["GGML_CPU_ALL_VARIANTS=ON", "GGML_BACKEND_DL=OFF"],
            "GGML_CPU_ALL_VARIANTS needs",
        ),
        (["GGML_NATIVE=ON", "GGML_BACKEND_DL=ON"], "GGML_NATIVE=ON contradicts backends as plug-ins"),
        (["GGML_NATIVE=ON", "GGML_VULKAN=ON"], "GGML_NATIVE=ON contradicts backends as plug-ins"),
    ],
)
def test_a_contradiction_stops_the_build(options: list[str], message: str) -> None:
    code, output = configure(*options)
    assert code == 1
    assert message in output
    assert output.count("CMake Error") == 1


@pytest.mark.skipif(not GGML.is_file(), reason="needs the llama.cpp tree")
def test_every_backend_with_a_driver_is_a_plugin() -> None:
    backends = {
        name.upper() for name in re.findall(r"^ggml_add_backend\((\w+)\)", GGML.read_text(), re.MULTILINE)
    }
    linked = {"CPU", "BLAS", "METAL"}
    assert linked < backends
    for backend in backends - linked:
        assert configure(f"GGML_{backend}=ON") == (0, "-- pyllama configuration: plug-in"), backend
    for backend in linked:
        assert configure(f"GGML_{backend}=ON") == (0, "-- pyllama configuration: native"), backend
    for backend in backends - {"CPU"}:
        code, output = configure(f"GGML_{backend}=ON", "PYLLAMA_USE_SYSTEM_GGML=ON")
        assert code == 1, backend
        assert f"GGML_{backend} contradicts PYLLAMA_USE_SYSTEM_GGML" in output
