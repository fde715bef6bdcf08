"""``pyllama info``: what this build is, and what it can use."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from typing import Any

from pyllama.version import package_version

__all__ = ["cpu_library", "run"]


def run(args: list[str]) -> int:
    """Print the versions, backends and devices; return the exit code."""
    if args not in ([], ["--json"]):
        print("usage: pyllama info [--json]", file=sys.stderr)
        return 2
    from pyllama._core import _llama

    info: dict[str, Any] = {
        "pyllama": package_version(),
        "python": sys.version.split()[0],
        **_llama.build_info(),
    }
    if args:
        print(json.dumps(info, indent=2))
        return 0
    for name, value in info.items():
        if name == "devices":
            for device in value:
                free, total = device["memory_free"] / 2**20, device["memory_total"] / 2**20
                print(
                    f"device         {device['name']}: {device['description']} "
                    f"({device['backend']}, {device['kind']}, {free:.0f} of {total:.0f} MiB free)"
                )
        else:
            print(f"{name.replace('_', '.'):<14} {_shown(value)}")
        if name == "configuration":
            print(f"{'kernels':<14} {cpu_library(info)}")
    return 0


def cpu_library(info: Mapping[str, Any]) -> str:
    """Say which of the CPU backend's variants was chosen."""
    library: str = info["libraries"].get("CPU", "")
    if not library:
        return "no CPU backend"
    # A system's ggml has a version behind its suffix.
    if variant := re.search(r"ggml-cpu-(.+?)\.so", library):
        return f"CPU variant {variant[1]}"
    return {
        "native": "for the CPU it was built on",
        "system-ggml": "the system's CPU kernels",
    }.get(info["configuration"], "one CPU variant")


def _shown(value: Any) -> Any:
    if isinstance(value, list):
        return ", ".join(value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {each}" for key, each in value.items())
    return value
