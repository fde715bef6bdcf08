"""Wheels as zip files: reading one, and writing one whose bytes depend on its content alone."""

from __future__ import annotations

import base64
import hashlib
import re
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Wheel", "WheelError", "write_wheel"]

_NAME = re.compile(
    r"(?P<distribution>[^-]+)-(?P<version>[^-]+)(-\d[^-]*)?-(?P<python>[^-]+)-(?P<abi>[^-]+)-(?P<platform>[^-]+)\.whl"
)


class WheelError(Exception):
    """Not a wheel that we could work with; the message is one line."""


@dataclass(frozen=True)
class Wheel:
    """A wheel's name and its files, by their path in it."""

    path: Path
    distribution: str  # as in file names, with underscores
    version: str
    python: str
    abi: str
    platform: str
    files: dict[str, bytes]
    modes: dict[str, int]

    @classmethod
    def read(cls, path: Path) -> Wheel:
        """Read a wheel into memory. Raises WheelError."""
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise WheelError(f"{path.name} is no wheel's name")
        try:
            with zipfile.ZipFile(path) as archive:
                entries = [entry for entry in archive.infolist() if not entry.is_dir()]
                files = {entry.filename: archive.read(entry) for entry in entries}
                modes = {entry.filename: entry.external_attr >> 16 for entry in entries}
        except (OSError, zipfile.BadZipFile) as error:
            raise WheelError(f"cannot read {path}: {error}") from None
        return cls(path=path, files=files, modes=modes, **match.groupdict())

    @property
    def tag(self) -> str:
        return f"{self.python}-{self.abi}-{self.platform}"

    @property
    def dist_info(self) -> str:
        return f"{self.distribution}-{self.version}.dist-info"

    def metadata(self, name: str) -> str:
        """Return a text file of the dist-info folder, or "" where there is none."""
        return self.files.get(f"{self.dist_info}/{name}", b"").decode()


def record_line(name: str, data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(data)}\n"


def write_wheel(path: Path, files: dict[str, bytes], dist_info: str, epoch: int) -> None:
    """Write a wheel: sorted, with its RECORD, dist-info last, every time the epoch's."""
    record = f"{dist_info}/RECORD"
    names = sorted(files, key=lambda name: (name.startswith(f"{dist_info}/"), name))
    lines = "".join(record_line(name, files[name]) for name in names) + f"{record},,\n"
    moment = time.gmtime(max(epoch, 315532800))[:6]  # zip files begin in 1980
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in (*names, record):
            entry = zipfile.ZipInfo(name, moment)
            entry.external_attr = (0o100755 if name.endswith(".so") else 0o100644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, lines.encode() if name == record else files[name])
