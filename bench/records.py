"""Measurements as a file: written after a comparison, read by the page."""

from __future__ import annotations

import json
import math
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.measure import Measurement
from bench.paths import ROOT
from bench.process import Memory
from bench.reference import build_number


def machine() -> dict[str, Any]:
    """Return what the figures depend on; `arguments` are those of the last run that wrote them."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "llama.cpp": f"b{build_number()}",
        "pyllama": revision(),
        "arguments": shlex.join(sys.argv[1:]),
        "time": time.strftime("%Y-%m-%d %H:%M"),
    }


def revision() -> str:
    """Return what the tree is at, "unknown" outside a repository."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def write(measurements: Sequence[Measurement], path: Path) -> None:
    """Write every measurement, with the machine it was made on; figures that are unknown are null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {"machine": machine(), "measurements": [asdict(m) for m in measurements]}
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(_known(record), indent=1, allow_nan=False), encoding="utf-8")
    part.replace(path)


def read(path: Path) -> tuple[dict[str, Any], list[Measurement]]:
    """Return what ``write`` has written: the machine and the measurements.

    Raises:
        ValueError: The file is of another form.
    """
    record = json.loads(path.read_text(encoding="utf-8"))
    try:
        return record["machine"], [_measurement(each) for each in record["measurements"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no file of measurements of this version: {error}") from None


def _measurement(data: dict[str, Any]) -> Measurement:
    def figures(known: dict[str, float | None]) -> dict[str, float]:
        return {key: math.nan if value is None else value for key, value in known.items()}

    return Measurement(
        **{
            **data,
            "ready_s": math.nan if data["ready_s"] is None else data["ready_s"],
            "loaded": Memory(**figures(data["loaded"])),
            "served": Memory(**figures(data["served"])),
            "scenarios": {name: figures(each) for name, each in data["scenarios"].items()},
        }
    )


def _known(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _known(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_known(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
