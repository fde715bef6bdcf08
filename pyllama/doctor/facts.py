"""What the doctor knows of a machine and an installation. Sizes are in bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Core", "Facts", "ModelFile"]


@dataclass(frozen=True)
class Core:
    """What came of loading the extension module and its backends, in a process of its own."""

    info: Mapping[str, Any] | None = None  # build_info()
    error: str = ""  # the last line of what it said instead
    signal: int = 0  # what it died of
    unloadable: Mapping[str, str] = field(default_factory=dict)  # plug-in -> why it is not loaded (probe.py)
    mapped: tuple[str, ...] = ()  # ggml's libraries in that process


@dataclass(frozen=True)
class ModelFile:
    """A model that was asked about."""

    path: str
    size: int = 0  # all parts of a split model
    problem: str = ""


@dataclass(frozen=True)
class Facts:
    """Everything that the checks look at."""

    core: Core
    machine: str = "x86_64"
    cpu_flags: frozenset[str] = frozenset()  # of /proc/cpuinfo; empty where nobody says
    libraries: tuple[str, ...] = ()  # in the package's lib folder
    plugin_folders: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict
    )  # llama.cpp's tag -> libraries
    gpus: frozenset[str] = frozenset()  # NVIDIA, AMD, Intel: display devices on the bus
    drivers: frozenset[str] = frozenset()  # of those, the ones whose kernel driver is there
    environment: Mapping[str, str] = field(default_factory=dict)  # variables that change what is loaded
    others: tuple[str, ...] = ()  # installed distributions that carry a ggml of their own
    holders: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict
    )  # library's path -> plug-ins that bring it
    lost: frozenset[str] = frozenset()  # of those libraries, the ones that are not there
    memory_total: int = 0  # 0: unknown
    memory_available: int = 0
    model: ModelFile | None = None
    port_problem: str = ""
