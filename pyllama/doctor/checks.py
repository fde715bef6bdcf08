"""Judges the facts: each check yields what is wrong and what to do about it, and looks at nothing else."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from pyllama.doctor.facts import Facts
from pyllama.version import DISTRIBUTION

__all__ = ["Finding", "examine"]

_REBUILD = (
    f"build it on this machine: pip install --force-reinstall --no-binary {DISTRIBUTION} {DISTRIBUTION}"
)
_REINSTALL = f"pip install --force-reinstall {DISTRIBUTION}"
_OWN_BASE = "libpyllama-ggml-base"
_SYSTEM = "system-ggml"  # the configuration whose ggml is the system's
# Backends that compute on a GPU, and on whose.
_GPU_BACKENDS = {
    "CUDA": {"NVIDIA"},
    "ROCm": {"AMD"},
    "HIP": {"AMD"},
    "SYCL": {"Intel"},
    "Vulkan": {"NVIDIA", "AMD", "Intel"},
    "OpenCL": {"Intel"},
}
_ROCM = (
    "install ROCm's runtime, of the version in the plug-in's name (rocm6, rocm7), and tell the loader "
    "where it is (a line in /etc/ld.so.conf.d, then ldconfig)"
)
_DRIVERS = {
    "libcuda.so": "install NVIDIA's driver; in a container, start it with the GPU handed in (--gpus all)",
    "libcudart.so.12": "pip install nvidia-cuda-runtime-cu12",
    "libcublas.so.12": "pip install nvidia-cublas-cu12",
    "libcublasLt.so.12": "pip install nvidia-cublas-cu12",
    "libcudart.so": "pip install nvidia-cuda-runtime",
    "libcublas": "pip install nvidia-cublas",
    "libvulkan.so": "install the Vulkan loader (Debian: libvulkan1) and your GPU's driver",
    "libamdhip64": _ROCM,
    "libhipblas": _ROCM,
    "librocblas": _ROCM,
    "libgomp": "install GCC's OpenMP library (Debian: libgomp1)",
}


@dataclass(frozen=True)
class Finding:
    """Something that is wrong (error), may be (warning), or is worth knowing (note), and what to do."""

    level: Literal["error", "warning", "note"]
    what: str
    do: str


def examine(facts: Facts) -> list[Finding]:
    """Return what is wrong, errors first."""
    found = [finding for check in _CHECKS for finding in check(facts)]
    return sorted(found, key=lambda finding: ("error", "warning", "note").index(finding.level))


def _module(facts: Facts) -> Iterator[Finding]:
    core = facts.core
    if core.info is not None:
        return
    if core.signal == signal.SIGILL:
        what = "the module uses instructions that this CPU does not have: it was built for another machine"
        yield Finding("error", what, _REBUILD)
    elif core.signal:
        yield Finding("error", f"loading the module ends the process by signal {core.signal}", _REINSTALL)
    elif match := re.search(r"version [`'](GLIBC\w*_[\d.]+)' not found", core.error):
        yield Finding("error", f"this system is older than the wheel: it has no {match[1]}", _REBUILD)
    elif match := re.search(r"(lib[\w.+-]+\.so[\w.]*): cannot open shared object file", core.error):
        yield Finding("error", f"the library {match[1]} is missing", _advice(match[1], _REINSTALL))
    elif "No module named 'pyllama._core._llama'" in core.error:
        what = "the compiled module is not there: this is a checkout that was not built"
        yield Finding("error", what, "build it (make build), or run from another folder")
    else:
        yield Finding("error", f"the module cannot be loaded: {core.error}", _REINSTALL)


def _cpu(facts: Facts) -> Iterator[Finding]:
    info = facts.core.info
    if info is None:
        return
    if "CPU" not in info["backends"]:
        what = "no CPU backend was loaded, and nothing runs without one"
        yield Finding("error", what, f"the package is incomplete: {_REINSTALL}")
        return
    flags = facts.cpu_flags
    if facts.machine not in ("x86_64", "AMD64") or not flags:
        return
    if "avx" not in flags:
        what = "this CPU has no AVX: models run several times slower than on any newer one"
        yield Finding(
            "warning", what, "take small, strongly quantised models (Q4_0); a virtual machine may hide it"
        )
    elif "avx2" not in flags:
        what = "this CPU has no AVX2: models run about half as fast as on any newer one"
        yield Finding("warning", what, "take small models; in a virtual machine, pass the host's CPU through")
    elif "AVX2 = 1" not in info["flags"]:
        library = info["libraries"].get("CPU", "")
        what = f"the CPU has AVX2, and the backend that was loaded does not use it ({library})"
        fix = {
            "native": _REBUILD,
            _SYSTEM: "the system's ggml was built without it: a pyllama that carries its own has it",
        }.get(info["configuration"], f"the package is incomplete: {_REINSTALL}")
        yield Finding("warning", what, fix)


def _plugins(facts: Facts) -> Iterator[Finding]:
    info = facts.core.info
    if info is None:
        return
    for tag, libraries in facts.plugin_folders.items():
        if tag != info["llama_cpp"]:
            what = (
                f"{', '.join(libraries)} is built from llama.cpp {tag}, and pyllama from {info['llama_cpp']}"
            )
            yield Finding("error", what, "install the plug-in of pyllama's own version")
    for library, holders in facts.holders.items():
        if len(holders) > 1:
            what = f"{' and '.join(holders)} bring the same file, {library}: the one installed last is in use"
            fix = f"pip uninstall {' '.join(holders)}, then install the one for your driver"
            yield Finding("error", what, fix)
        elif library in facts.lost:
            what = f"{holders[0]} is installed, and its {library} is not there"
            yield Finding("error", what, f"pip install --force-reinstall --no-deps {holders[0]}")
    for library, reason in facts.core.unloadable.items():
        if not reason:
            yield Finding(
                "warning", f"the {_backend_of(library)} backend finds no driver", _driver_advice(facts)
            )
            continue
        match = re.search(r"(lib[\w.+-]+\.so[\w.]*): cannot open shared object file", reason)
        missing = f"{match[1]} is missing" if match else reason
        advice = _advice(match[1] if match else "", "install what it needs, or remove the plug-in")
        yield Finding("error", f"the backend {library} cannot be loaded: {missing}", advice)
    for backend in info["backends"]:
        if backend in _GPU_BACKENDS and all(device["backend"] != backend for device in info["devices"]):
            yield Finding("warning", f"the {backend} backend finds no device", _driver_advice(facts))


def _gpus(facts: Facts) -> Iterator[Finding]:
    info = facts.core.info
    if info is None:
        return
    for vendor in sorted(facts.gpus & {"NVIDIA", "AMD"}):
        able = [name for name in info["backends"] if vendor in _GPU_BACKENDS.get(name, ())]
        if able:
            continue
        option = {"NVIDIA": "GGML_CUDA", "AMD": "GGML_HIP"}[vendor]
        if vendor not in facts.drivers:
            what = f"there is a GPU of {vendor}, and no driver for it"
            yield Finding("note", what, "install the driver if models are to run on it")
        elif any(_GPU_BACKENDS.get(_backend_of(name), set()) & {vendor} for name in facts.core.unloadable):
            continue  # said already
        else:
            what = f"there is a GPU of {vendor}, and this build computes on the CPU only"
            fix = f"install its plug-in, or build with it: pip install ... -C cmake.define.{option}=ON"
            yield Finding("warning", what, fix)


def _two_copies(facts: Facts) -> Iterator[Finding]:
    bases = [path for path in facts.core.mapped if re.search(r"(?<!py)ggml-base", PurePath(path).name)]
    foreign = [path for path in bases if not PurePath(path).name.startswith(_OWN_BASE)]
    if facts.core.info is not None and facts.core.info["configuration"] == _SYSTEM:
        foreign = foreign[1:]  # one of them is ours
    preloaded = [
        name for name in ("GGML_BACKEND_PATH", "LD_PRELOAD") if "ggml" in facts.environment.get(name, "")
    ]
    if foreign and preloaded:
        what = f"{preloaded[0]} brings a second ggml into the process: {foreign[0]}"
        yield Finding(
            "error", what, f"unset {preloaded[0]}, or build that backend from pyllama's own llama.cpp"
        )
    elif foreign or len(bases) > 1:
        what = f"there are {len(bases)} copies of ggml in the process: {', '.join(bases)}"
        fix = "they do not mix, but their threads compete for the cores: use one of the packages per process"
        yield Finding("warning", what, fix)
    elif preloaded:
        yield Finding(
            "note", f"{preloaded[0]} is set: {facts.environment[preloaded[0]]}", "unset it unless it is meant"
        )
    if facts.others:
        what = f"other packages carry a ggml of their own: {', '.join(facts.others)}"
        yield Finding(
            "note", what, "nothing to do; they only compete for the cores when they run in one process"
        )


def _model(facts: Facts) -> Iterator[Finding]:
    model = facts.model
    if model is None:
        return
    if model.problem:
        # The reason's words are llama.cpp's, or ours of modelfile.py.
        partial = re.search(r"not within the file bounds|incomplete|cut off|corrupted", model.problem)
        fix = (
            "download it again: it is not all there"
            if partial
            else "give the path of a GGUF file that you may read"
        )
        yield Finding("error", model.problem, fix)
        return
    devices = (facts.core.info or {}).get("devices", [])
    on_gpus = sum(device["memory_total"] for device in devices if device["kind"] == "GPU")
    if facts.memory_total == 0:
        return
    size = f"{model.path} needs {_gib(model.size)} for its weights alone"
    fix = "take a smaller model or a stronger quantisation"
    if model.size > facts.memory_total + on_gpus:
        yield Finding("error", f"{size}, and there are {_gib(facts.memory_total + on_gpus)} in all", fix)
    elif model.size > facts.memory_available + on_gpus:
        what = f"{size}, and only {_gib(facts.memory_available + on_gpus)} are free"
        yield Finding("warning", what, f"end other programs, or {fix}")


def _port(facts: Facts) -> Iterator[Finding]:
    if facts.port_problem:
        what = f"the server could not listen on {facts.port_problem}"
        yield Finding("error", what, "end what listens there, or choose another with --host and --port")


def _backend_of(library: str) -> str:
    """Return the backend's name of a plug-in's file name."""
    short = library.removeprefix("libggml-").removesuffix(".so")
    return {name.lower(): name for name in _GPU_BACKENDS}.get(short, short)


def _driver_advice(facts: Facts) -> str:
    hidden = [name for name in facts.environment if name.endswith("VISIBLE_DEVICES")]
    if hidden:
        return f"{' and '.join(hidden)} hides them: unset it"
    chosen = [name for name in facts.environment if name.startswith("VK_")]
    if chosen:
        return f"{' and '.join(chosen)} says which driver to take: unset it, or correct it"
    return "install or repair the GPU's driver"


def _advice(library: str, otherwise: str) -> str:
    return next((advice for start, advice in _DRIVERS.items() if library.startswith(start)), otherwise)


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


_CHECKS: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    _module,
    _cpu,
    _plugins,
    _gpus,
    _two_copies,
    _model,
    _port,
)
