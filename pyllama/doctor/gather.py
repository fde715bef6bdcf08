"""Gathers the facts: the only part of the doctor that looks at the machine."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyllama.doctor.facts import Core, Facts, ModelFile
from pyllama.doctor.probe import mapped_ggml
from pyllama.version import DISTRIBUTION

__all__ = ["gather"]

_VARIABLES = re.compile(
    r"GGML_BACKEND_PATH|LD_PRELOAD|(CUDA|HIP|ROCR|GGML_VK)_VISIBLE_DEVICES|VK_(ICD|DRIVER)_FILE(NAME)?S"
)
_VENDORS = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel"}


def gather(
    *, model: str | None = None, host: str = "127.0.0.1", port: int | None = None, pid: int | None = None
) -> Facts:
    """Look at this machine and this installation, and with ``pid`` at a running process of the same user.

    Raises:
        OSError: That process is not there, or is somebody else's.
    """
    core = probe_core()
    if pid is not None:
        mapped = tuple(mapped_ggml(Path(f"/proc/{pid}/maps").read_text()))
        core = Core(core.info, core.error, core.signal, core.unloadable, mapped)
    total, available = memory()
    gpus, drivers = display_devices(Path("/"))
    holders, lost = installed_plugins()
    libraries, folders = package_libraries(Path(__file__).parent.parent / "lib")
    return Facts(
        core=core,
        machine=platform.machine(),
        cpu_flags=cpu_flags(),
        libraries=libraries,
        plugin_folders=folders,
        gpus=gpus,
        drivers=drivers,
        environment={key: value for key, value in os.environ.items() if _VARIABLES.fullmatch(key)},
        others=other_packages(),
        holders=holders,
        lost=lost,
        memory_total=total,
        memory_available=available,
        model=None if model is None else model_file(model),
        port_problem="" if port is None else port_problem(host, port),
    )


def run_probe(*arguments: str) -> tuple[Mapping[str, Any] | None, str, int]:
    """Run the probe; return what it found, or the last line of what it said and the signal it died of."""
    # -P: the current folder may be a checkout whose pyllama/ has no module.
    command = [sys.executable, "-P", "-m", "pyllama.doctor.probe", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", env=environment
    )
    if done.returncode == 0:
        found: Mapping[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found, "", 0
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return None, lines[-1] if lines else f"exit code {done.returncode}", max(-done.returncode, 0)


def probe_core() -> Core:
    found, error, signal = run_probe()
    if found is None:
        return Core(error=error, signal=signal)
    return Core(info=found["info"], unloadable=found["unloadable"], mapped=tuple(found["mapped"]))


def package_libraries(lib: Path) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Return the libraries in the package's folder, and those in the folders below it."""
    if not lib.is_dir():
        return (), {}
    own = tuple(sorted(path.name for path in lib.glob("*.so")))
    below = {
        folder.name: tuple(sorted(path.name for path in folder.glob("*.so")))
        for folder in sorted(lib.iterdir())
        if folder.is_dir()
    }
    return own, {name: found for name, found in below.items() if found}


def cpu_flags(path: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Return the CPU's features; nothing where the system has no such file."""
    try:
        text = path.read_text()
    except OSError:
        return frozenset()
    match = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", text, re.MULTILINE)
    return frozenset(match[1].split()) if match else frozenset()


def display_devices(root: Path) -> tuple[frozenset[str], frozenset[str]]:
    """Return whose GPUs are on the bus, and for which of them the kernel has a driver."""
    gpus = set()
    for device in root.glob("sys/bus/pci/devices/*"):
        try:
            kind = (device / "class").read_text().strip()
            vendor = (device / "vendor").read_text().strip()
        except OSError:
            continue
        if kind.startswith(("0x03", "0x12")) and vendor in _VENDORS:  # display controllers, accelerators
            gpus.add(_VENDORS[vendor])
    drivers = set()
    if (root / "proc/driver/nvidia/version").exists() or (root / "dev/nvidiactl").exists():
        drivers.add("NVIDIA")
    if (root / "dev/kfd").exists():
        drivers.add("AMD")
    if any(root.glob("dev/dri/renderD*")):
        drivers |= gpus & {"AMD", "Intel"}
    return frozenset(gpus | (drivers & {"NVIDIA"})), frozenset(drivers)


def other_packages() -> tuple[str, ...]:
    """Return the installed distributions that bring a ggml of their own."""
    found = set()
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name is None or name.startswith(DISTRIBUTION):
            continue
        for file in distribution.files or ():
            if re.search(r"(lib)?(ggml|llama)[\w.-]*\.(so|dylib)", file.name):
                found.add(f"{name} {distribution.version}")
                break
    return tuple(sorted(found))


def installed_plugins() -> tuple[dict[str, tuple[str, ...]], frozenset[str]]:
    """Return which installed plug-ins bring each library, by its path, and which of those are not there."""
    holders: dict[str, set[str]] = {}
    lost = set()
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name is None or not name.startswith(f"{DISTRIBUTION}-"):
            continue
        for file in distribution.files or ():
            if file.suffix in (".so", ".dylib"):
                holders.setdefault(str(file), set()).add(name)
                if not Path(str(file.locate())).exists():
                    lost.add(str(file))
    return {library: tuple(sorted(names)) for library, names in holders.items()}, frozenset(lost)


def memory(root: Path = Path("/")) -> tuple[int, int]:
    """Return all and the free memory of this machine, or of our container; zeros where unknown."""
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        return 0, 0
    sizes = {line.partition(":")[0]: int(line.split()[1]) * 1024 for line in lines if len(line.split()) > 1}
    total, available = sizes.get("MemTotal", 0), sizes.get("MemAvailable", 0)
    cgroup = root / "sys/fs/cgroup"
    try:
        limit = int((cgroup / "memory.max").read_text())
        used = int((cgroup / "memory.current").read_text())
    except (OSError, ValueError):  # no cgroup of version 2, or "max"
        return total, available
    return min(total, limit), min(available, max(limit - used, 0))


def model_file(path: str) -> ModelFile:
    """Look at a model without loading its weights."""
    from pyllama.errors import ModelLoadError
    from pyllama.server.modelfile import check_model_file

    try:
        check_model_file(path)
    except ModelLoadError as error:
        return ModelFile(path, problem=str(error))
    file = Path(path)
    parts = [file]
    if match := re.fullmatch(r"(.*)-00001-of-(\d{5})\.gguf", file.name):
        parts = sorted(file.parent.glob(f"{match[1]}-?????-of-{match[2]}.gguf"))
    size = sum(part.stat().st_size for part in parts)
    found, said, signal = run_probe(path)
    if found is not None:
        return ModelFile(path, size, found["problem"])
    return ModelFile(path, size, f"reading it ended a process by signal {signal}" if signal else said)


def port_problem(host: str, port: int) -> str:
    """Return why a server could not listen there, or ""."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return f"{host} port {port}: {(error.strerror or str(error)).lower()}"
    return ""
