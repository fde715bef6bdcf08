"""The table of wheels (backends.toml), and the workflow's matrix of it.

``python packaging/backends.py matrix`` prints the matrix as JSON, ``names`` the names, ``requires NAME`` the
distributions that bring what a plug-in does not carry.
"""

from __future__ import annotations

import json
import platform
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["ROOT", "Backend", "TableError", "find_backend", "load_backends", "this_platform"]

ROOT = Path(__file__).resolve().parent.parent
TABLE = Path(__file__).with_name("backends.toml")

# The workflow's machines. macOS has no containers.
RUNNERS = {"linux-x86_64": "ubuntu-24.04", "linux-aarch64": "ubuntu-24.04-arm", "macos-arm64": "macos-14"}


class TableError(Exception):
    """The table says something that nothing here can do; the message is one line."""


@dataclass(frozen=True)
class Backend:
    """One kind of wheel, as backends.toml describes it."""

    name: str
    kind: str
    distribution: str
    platforms: tuple[str, ...]
    options: tuple[str, ...]
    libraries: tuple[str, ...]
    exclude: tuple[str, ...]
    max_mb: float
    image: str = ""
    requires: tuple[str, ...] = ()
    toolkit: tuple[str, ...] = ()
    packages: dict[str, list[str]] = field(default_factory=dict)
    variants: dict[str, list[str]] = field(default_factory=dict)

    @property
    def is_plugin(self) -> bool:
        return self.kind == "plug-in"


def load_backends(table: Path = TABLE) -> dict[str, Backend]:
    """Read the table. Raises TableError."""
    try:
        data = tomllib.loads(table.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise TableError(f"cannot read {table}: {error}") from None
    common = tuple(data.pop("common", {}).get("options", ()))
    return {name: _backend(name, row, common) for name, row in data.items()}


def _backend(name: str, row: dict[str, object], common: tuple[str, ...]) -> Backend:
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    values["options"] = common + tuple(values.get("options", ()))  # type: ignore[arg-type]
    try:
        backend = Backend(name=name, **values)  # type: ignore[arg-type]
    except TypeError as error:
        raise TableError(f"[{name}]: {str(error).partition('() ')[2]}") from None
    if backend.kind not in ("core", "plug-in"):
        raise TableError(f"[{name}]: kind is {backend.kind!r}, not core or plug-in")
    for machine in backend.platforms:
        if machine not in RUNNERS:
            raise TableError(f"[{name}]: no machine for {machine}; known: {', '.join(RUNNERS)}")
        if machine.startswith("linux") and not backend.image:
            raise TableError(f"[{name}]: {machine} needs an image")
    return backend


def find_backend(name: str) -> Backend:
    """Return one row. Raises TableError, which names those that there are."""
    backends = load_backends()
    if name not in backends:
        raise TableError(f"no backend {name!r} in {TABLE.name}; there are: {', '.join(backends)}")
    return backends[name]


def this_platform() -> str:
    """Return the table's name for the machine that this runs on."""
    system = {"linux": "linux", "darwin": "macos"}.get(sys.platform, sys.platform)
    return f"{system}-{platform.machine()}"


def matrix() -> dict[str, list[dict[str, str]]]:
    """Return the workflow's matrix: one entry per wheel."""
    return {
        "include": [
            {"backend": backend.name, "platform": machine, "runner": RUNNERS[machine], "image": backend.image}
            for backend in load_backends().values()
            for machine in backend.platforms
        ]
    }


def main(arguments: list[str]) -> int:
    try:
        match arguments:
            case ["matrix"]:
                print(json.dumps(matrix()))
            case ["names"]:
                print("\n".join(load_backends()))
            case ["requires", name]:
                print("\n".join(find_backend(name).requires))
            case _:
                print("usage: backends.py matrix | names | requires NAME", file=sys.stderr)
                return 2
    except TableError as error:
        print(f"backends: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
