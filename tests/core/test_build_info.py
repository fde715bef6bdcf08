"""What the build says of itself."""

from __future__ import annotations

from pathlib import Path

import pyllama


def test_it_names_backends_devices_and_what_they_support() -> None:
    info = pyllama.build_info()
    assert set(info) == {
        "llama_cpp",
        "configuration",
        "flags",
        "backends",
        "libraries",
        "devices",
        "supports",
    }
    assert set(info["libraries"]) == set(info["backends"])
    assert "cpu" in Path(info["libraries"]["CPU"]).name
    assert info["configuration"] in ("native", "plug-in")
    assert "CPU" in info["backends"]
    (cpu,) = [device for device in info["devices"] if device["backend"] == "CPU"]
    assert 0 < cpu["memory_free"] <= cpu["memory_total"]
    assert set(info["supports"]) == {"mmap", "mlock", "gpu_offload", "rpc"}
    assert all(isinstance(value, bool) for value in info["supports"].values())
