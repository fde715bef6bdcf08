"""Each thing that can be wrong, as facts: what the doctor says, and that it says no more than that."""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import Any

import pytest

from pyllama.doctor import Core, Facts, ModelFile, examine

GIB = 2**30

INFO: dict[str, Any] = {
    "llama_cpp": "b7",
    "configuration": "plug-in",
    "flags": "gcc 14, Release, CPU : AVX = 1 | AVX2 = 1 | ",
    "backends": ["CPU"],
    "libraries": {"CPU": "libggml-cpu-haswell.so"},
    "devices": [
        {"name": "CPU", "backend": "CPU", "kind": "CPU", "memory_total": 8 * GIB, "memory_free": 4 * GIB}
    ],
}
OWN = "/site/pyllama/lib/libpyllama-ggml-base.so"
HEALTHY = Facts(
    core=Core(
        info=INFO,
        mapped=(OWN, "/site/pyllama/lib/libpyllama-ggml.so", "/site/pyllama/lib/libggml-cpu-haswell.so"),
    ),
    cpu_flags=frozenset({"avx", "avx2"}),
    libraries=("libggml-cpu-haswell.so", "libpyllama-ggml-base.so", "libpyllama-ggml.so"),
    memory_total=8 * GIB,
    memory_available=4 * GIB,
)
VULKAN = INFO | {
    "backends": ["Vulkan", "CPU"],
    "libraries": INFO["libraries"] | {"Vulkan": "libggml-vulkan.so"},
}


def core(info: dict[str, Any] = INFO, **changes: Any) -> Core:
    return replace(HEALTHY.core, info=info, **changes)


def facts(**changes: Any) -> Facts:
    return replace(HEALTHY, **changes)


def broken(error: str = "", signal: int = 0) -> Facts:
    return facts(core=Core(error=error, signal=signal))


def test_a_healthy_installation_has_no_findings() -> None:
    assert examine(HEALTHY) == []


CASES = {
    "built for another CPU": (
        broken("Illegal instruction", signal.SIGILL),
        "error",
        "instructions that this CPU does not have",
        "build it on this machine",
    ),
    "a crash": (broken("", signal.SIGSEGV), "error", "by signal 11", "--force-reinstall"),
    "an older system": (
        broken("ImportError: /lib/libm.so.6: version `GLIBC_2.34' not found (required by /site/x.so)"),
        "error",
        "it has no GLIBC_2.34",
        "--no-binary",
    ),
    "a library is missing": (
        broken("ImportError: libgomp.so.1: cannot open shared object file: No such file or directory"),
        "error",
        "libgomp.so.1 is missing",
        "libgomp1",
    ),
    "a checkout": (
        broken("ModuleNotFoundError: No module named 'pyllama._core._llama'"),
        "error",
        "not built",
        "make build",
    ),
    "anything else": (broken("ImportError: strange"), "error", "ImportError: strange", "--force-reinstall"),
    "no CPU backend": (
        facts(core=core(INFO | {"backends": [], "libraries": {}, "devices": []})),
        "error",
        "no CPU backend",
        "--force-reinstall",
    ),
    "no AVX": (facts(cpu_flags=frozenset({"sse4_2"})), "warning", "no AVX:", "quantised"),
    "no AVX2": (facts(cpu_flags=frozenset({"avx"})), "warning", "no AVX2:", "virtual machine"),
    "a variant is missing": (
        facts(core=core(INFO | {"flags": "CPU : SSE3 = 1 | ", "libraries": {"CPU": "libggml-cpu-x64.so"}})),
        "warning",
        "does not use it (libggml-cpu-x64.so)",
        "incomplete",
    ),
    "a native build of an older machine": (
        facts(
            core=core(
                INFO
                | {
                    "flags": "CPU : SSE3 = 1 | ",
                    "configuration": "native",
                    "libraries": {"CPU": "libpyllama-ggml-cpu.so"},
                }
            )
        ),
        "warning",
        "does not use it",
        "build it on this machine",
    ),
    "a plug-in of another llama.cpp": (
        facts(plugin_folders={"b6": ("libggml-vulkan.so",)}),
        "error",
        "libggml-vulkan.so is built from llama.cpp b6, and pyllama from b7",
        "pyllama's own version",
    ),
    "the loader of a backend is missing": (
        facts(
            core=core(
                unloadable={
                    "libggml-vulkan.so": "libvulkan.so.1: cannot open shared object file: No such file"
                }
            )
        ),
        "error",
        "libggml-vulkan.so cannot be loaded: libvulkan.so.1 is missing",
        "libvulkan1",
    ),
    "a backend without a device": (
        facts(core=core(VULKAN)),
        "warning",
        "Vulkan backend finds no device",
        "driver",
    ),
    "a hidden device": (
        facts(core=core(VULKAN), environment={"GGML_VK_VISIBLE_DEVICES": ""}),
        "warning",
        "Vulkan backend finds no device",
        "GGML_VK_VISIBLE_DEVICES hides them",
    ),
    "a GPU that is not used": (
        facts(gpus=frozenset({"NVIDIA"}), drivers=frozenset({"NVIDIA"})),
        "warning",
        "a GPU of NVIDIA, and this build computes on the CPU only",
        "GGML_CUDA",
    ),
    "a GPU without a driver": (
        facts(gpus=frozenset({"AMD"})),
        "note",
        "a GPU of AMD, and no driver",
        "install the driver",
    ),
    "two copies": (
        facts(core=core(mapped=(OWN, "/site/other/libggml-base.so.0"))),
        "warning",
        "2 copies of ggml in the process",
        "one of the packages per process",
    ),
    "a backend of another build": (
        facts(
            core=core(mapped=(OWN, "/opt/ggml/libggml-base.so")),
            environment={"GGML_BACKEND_PATH": "/opt/ggml/libggml-x.so"},
        ),
        "error",
        "GGML_BACKEND_PATH brings a second ggml",
        "unset GGML_BACKEND_PATH",
    ),
    "a backend from elsewhere": (
        facts(environment={"GGML_BACKEND_PATH": "/opt/ggml/libggml-x.so"}),
        "note",
        "GGML_BACKEND_PATH is set",
        "unset it",
    ),
    "another package": (facts(others=("xllamacpp 1.0",)), "note", "xllamacpp 1.0", "nothing to do"),
    "a model that is larger than the machine": (
        facts(model=ModelFile("m.gguf", 9 * GIB)),
        "error",
        "m.gguf needs 9.0 GiB for its weights alone, and there are 8.0 GiB in all",
        "smaller model",
    ),
    "a model that does not fit now": (
        facts(model=ModelFile("m.gguf", 5 * GIB)),
        "warning",
        "only 4.0 GiB are free",
        "end other programs",
    ),
    "a partial model": (
        facts(model=ModelFile("m.gguf", GIB, "tensor 'x' data is not within the file bounds")),
        "error",
        "file bounds",
        "download it again",
    ),
    "a backend without a driver": (
        facts(core=core(unloadable={"libggml-vulkan.so": ""})),
        "warning",
        "the Vulkan backend finds no driver",
        "repair the GPU's driver",
    ),
    "a driver that was chosen and is not there": (
        facts(
            core=core(unloadable={"libggml-vulkan.so": ""}), environment={"VK_ICD_FILENAMES": "/none.json"}
        ),
        "warning",
        "the Vulkan backend finds no driver",
        "VK_ICD_FILENAMES says which driver",
    ),
    "an unreadable model": (
        facts(model=ModelFile("m.gguf", problem="cannot load the model m.gguf: permission denied")),
        "error",
        "permission denied",
        "that you may read",
    ),
    "a busy port": (
        facts(port_problem="127.0.0.1 port 8080: address already in use"),
        "error",
        "127.0.0.1 port 8080: address already in use",
        "--port",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_says_what_is_wrong_and_what_to_do(name: str) -> None:
    given, level, what, do = CASES[name]
    (finding,) = examine(given)
    assert finding.level == level
    assert what in finding.what
    assert do in finding.do


def test_the_system_s_ggml_is_one_copy() -> None:
    info = INFO | {"configuration": "system-ggml", "libraries": {"CPU": "libggml-cpu.so.0.26.0"}}
    mapped = ("/usr/lib/libggml-base.so.0.26.0", "/usr/lib/libggml.so.0.26.0")
    assert examine(facts(core=core(info, mapped=mapped))) == []
    (finding,) = examine(facts(core=core(info, mapped=(*mapped, "/site/other/libggml-base.so.0"))))
    assert "2 copies of ggml" in finding.what
    info |= {"flags": "CPU : SSE3 = 1"}
    (finding,) = examine(facts(core=core(info, mapped=mapped)))
    assert "does not use it (libggml-cpu.so.0.26.0)" in finding.what
    assert "the system's ggml was built without it" in finding.do


def test_a_missing_driver_is_told_once() -> None:
    given = facts(
        core=core(
            unloadable={"libggml-cuda.so": "libcuda.so.1: cannot open shared object file: No such file"}
        ),
        gpus=frozenset({"NVIDIA"}),
        drivers=frozenset({"NVIDIA"}),
    )
    (finding,) = examine(given)
    assert "libcuda.so.1 is missing" in finding.what
    assert "NVIDIA's driver" in finding.do


@pytest.mark.parametrize(
    ("library", "distribution"),
    [
        ("libcudart.so.12", "nvidia-cuda-runtime-cu12"),
        ("libcublas.so.12", "nvidia-cublas-cu12"),
        ("libcublasLt.so.12", "nvidia-cublas-cu12"),
        ("libcudart.so.13", "nvidia-cuda-runtime"),
        ("libcublas.so.13", "nvidia-cublas"),
        ("libcublasLt.so.13", "nvidia-cublas"),
    ],
)
def test_cuda_s_libraries_come_from_the_index(library: str, distribution: str) -> None:
    reason = f"{library}: cannot open shared object file: No such file or directory"
    (finding,) = examine(facts(core=core(unloadable={"libggml-cuda.so": reason})))
    assert finding.do == f"pip install {distribution}"


def test_plugins_that_bring_the_same_file_are_named() -> None:
    both = {"pyllama/lib/b7/libggml-cuda.so": ("pyllama-engine-cu12", "pyllama-engine-cu13")}
    (finding,) = examine(facts(holders=both))
    assert finding.level == "error"
    assert (
        "pyllama-engine-cu12 and pyllama-engine-cu13 bring the same file, pyllama/lib/b7/libggml-cuda.so:"
        in finding.what
    )
    assert finding.do.startswith("pip uninstall pyllama-engine-cu12 pyllama-engine-cu13, then")


def test_a_plugin_whose_file_went_with_another_is_told() -> None:
    one = {"pyllama/lib/b7/libggml-cuda.so": ("pyllama-engine-cu13",)}
    assert examine(facts(holders=one)) == []
    (finding,) = examine(facts(holders=one, lost=frozenset(one)))
    assert (
        finding.what
        == "pyllama-engine-cu13 is installed, and its pyllama/lib/b7/libggml-cuda.so is not there"
    )
    assert "--force-reinstall" in finding.do


@pytest.mark.parametrize("library", ["libamdhip64.so.7", "libhipblas.so.3", "librocblas.so.5"])
def test_rocm_may_be_there_and_unknown_to_the_loader(library: str) -> None:
    reason = f"{library}: cannot open shared object file: No such file or directory"
    (finding,) = examine(facts(core=core(unloadable={"libggml-hip.so": reason})))
    assert finding.what == f"the backend libggml-hip.so cannot be loaded: {library} is missing"
    assert "rocm7" in finding.do
    assert "ldconfig" in finding.do


def test_a_gpu_of_the_right_backend_is_no_finding() -> None:
    device = {
        "name": "Vulkan0",
        "backend": "Vulkan",
        "kind": "GPU",
        "memory_total": 16 * GIB,
        "memory_free": 16 * GIB,
    }
    info = VULKAN | {"devices": [device, *INFO["devices"]]}
    given = facts(
        core=core(info), gpus=frozenset({"AMD"}), drivers=frozenset({"AMD"}), model=ModelFile("m", 18 * GIB)
    )
    assert examine(given) == []  # 16 GiB of the GPU, 4 of the machine


def test_errors_come_first() -> None:
    given = facts(cpu_flags=frozenset({"avx"}), port_problem="x", others=("a",))
    assert [finding.level for finding in examine(given)] == ["error", "warning", "note"]
