"""``pyllama info``: what this build is, and what it can use."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from typing import Any

__all__ = ["run"]


def run(args: list[str]) -> int:
    """Print the versions, backends and devices; return the exit code."""
    if args not in ([], ["--json"]):
        print("usage: pyllama info [--json]", file=sys.stderr)
        return 2
    from pyllama._core import _llama

    info: dict[str, Any] = {
        "pyllama": version("pyllama-engine"),
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
            shown = ", ".join(value) if isinstance(value, list) else value
            print(f"{name.replace('_', '.'):<14} {shown}")
    return 0
