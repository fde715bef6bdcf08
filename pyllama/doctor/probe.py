"""Runs in a process of its own, because what it tries may kill it: load the module, the backends, or a model.

Prints one line of JSON. ``python -P -m pyllama.doctor.probe [MODEL]``
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path
from typing import Any

__all__: list[str] = []


def mapped_ggml(maps: str) -> list[str]:
    """Return the paths of ggml's libraries in the text of a process's memory map."""
    paths = {line.split(maxsplit=5)[5] for line in maps.splitlines() if len(line.split(maxsplit=5)) == 6}
    return sorted(path for path in paths if "ggml" in Path(path).name)


def unloadable(loaded: set[str], folders: list[Path]) -> dict[str, str]:
    """Return why plug-ins beside the module are not among the loaded ones, in the system loader's words.

    The reason is "" where the loader has none: the backend declined, as Vulkan's does without a driver.
    """
    reasons = {}
    for folder in folders:
        for path in sorted(folder.glob("libggml-*.so")):
            if path.name in loaded or path.name.startswith("libggml-cpu-"):
                continue
            try:
                ctypes.CDLL(str(path))
                reasons[path.name] = ""
            except OSError as error:
                reasons[path.name] = str(error)
    return reasons


def probe_core() -> dict[str, Any]:
    from pyllama._core import _llama

    info = _llama.build_info()
    assert _llama.__file__ is not None
    lib = Path(_llama.__file__).parent.parent / "lib"
    maps = Path("/proc/self/maps")
    mapped = mapped_ggml(maps.read_text()) if maps.exists() else []
    reasons = unloadable(set(info["libraries"].values()), [lib, lib / info["llama_cpp"]])
    return {"info": info, "mapped": mapped, "unloadable": reasons}


def probe_model(path: str) -> dict[str, Any]:
    from pyllama._core import _llama

    try:
        # Reads all of the metadata, and checks that every tensor lies within its file.
        _llama.Model(path, vocab_only=True).close()
    except OSError as error:
        return {"problem": str(error)}
    return {"problem": ""}


if __name__ == "__main__":
    print(json.dumps(probe_model(sys.argv[1]) if len(sys.argv) > 1 else probe_core()))
