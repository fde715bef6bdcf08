"""The hub cache: ``models--USER--NAME/{refs,snapshots,blobs}``, as Hugging Face's own client lays it out."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

__all__ = ["HubCache"]

_COMMIT = re.compile(r"[0-9a-fA-F]{40}")
_OID = re.compile(r"[0-9a-fA-F]{40}|[0-9a-fA-F]{64}")


class HubCache:
    """One repository's part of the cache."""

    def __init__(self, root: Path, repo: str) -> None:
        self._folder = root / ("models--" + repo.replace("/", "--"))

    def snapshot(self) -> dict[str, Path]:
        """Return the files of the newest known commit, by their path in the repository."""
        for name in ("main", *self._refs()):
            try:
                commit = (self._folder / "refs" / name).read_text().strip()
            except OSError:
                continue
            folder = self._folder / "snapshots" / commit
            if _COMMIT.fullmatch(commit) and folder.is_dir():
                return {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
        return {}

    def note_commit(self, commit: str) -> None:
        """Remember a repository's newest commit.

        Raises:
            ValueError: It is none.
        """
        if not _COMMIT.fullmatch(commit):
            raise ValueError(f"not a commit: {commit!r}")
        refs = self._folder / "refs"
        refs.mkdir(parents=True, exist_ok=True)
        written = refs / f".main.{os.getpid()}"
        written.write_text(commit)
        os.replace(written, refs / "main")

    def place(self, commit: str, path: str) -> Path:
        """Return where a file of a commit belongs.

        Raises:
            ValueError: The path leads out of the snapshot.
        """
        parts = PurePosixPath(path).parts
        if not parts or PurePosixPath(path).is_absolute() or ".." in parts or "\0" in path or "\\" in path:
            raise ValueError(f"not a path within a repository: {path!r}")
        return self._folder / "snapshots" / commit / Path(*parts)

    def blob(self, oid: str) -> Path | None:
        """Return where content of this id is kept; None when it has no usable id."""
        return self._folder / "blobs" / oid if _OID.fullmatch(oid) else None

    @staticmethod
    def link(blob: Path, place: Path) -> None:
        """Make a blob appear as a file of a snapshot."""
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            place.symlink_to(os.path.relpath(blob, place.parent))
        except FileExistsError:
            return
        except OSError:  # a file system without links
            os.replace(blob, place)

    def _refs(self) -> list[str]:
        folder = self._folder / "refs"
        return sorted(each.name for each in folder.iterdir() if each.is_file()) if folder.is_dir() else []
