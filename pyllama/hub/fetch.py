"""Models that a flag names by a hub or a URL, with the download told on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["Progress", "fetch_model", "fetch_projector"]

# Seconds between two lines where nobody watches, as in a service's log.
_LINE_EVERY = 10.0


def fetch_model(flags: Mapping[str, Any]) -> Path | None:
    """Download the model that ``ServerParams.as_dict()`` names, unless it is there; None when it names none.

    Raises:
        HubError: It cannot be found or downloaded.
    """
    if not flags["hf_repo"] and not flags["model_url"]:
        return None
    from pyllama.hub.resolve import resolve_model

    with _places() as places:
        return resolve_model(dict(flags), **places)


def fetch_projector(flags: Mapping[str, Any], model: Path | None) -> Path | None:
    """Download the projector that the flags name, or that belongs to the model that fetch_model() returned.

    Raises:
        HubError: It cannot be downloaded.
    """
    if not flags["hf_repo"] and not flags["mmproj_url"]:
        return None
    from pyllama.hub.projector import resolve_projector

    with _places() as places:
        return resolve_projector(dict(flags), model, **places)


@contextmanager
def _places() -> Iterator[dict[str, Any]]:
    from pyllama._core import _llama

    places = _llama.hub_places()
    progress = Progress()
    try:
        yield {
            "endpoint": places["endpoint"],
            "hub_cache": Path(places["hub_cache"]),
            "file_cache": Path(places["file_cache"]),
            "progress": progress,
        }
    finally:
        progress.end()


class Progress:
    """Tells a download on stderr: one line that changes in a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._next = 0.0
        self._open = False

    def __call__(self, name: str, n_done: int, n_total: int) -> None:
        now = time.monotonic()
        if now < self._next and n_done != n_total:
            return
        self._next = now + (0.1 if self._terminal else _LINE_EVERY)
        share = f"{100 * n_done // n_total} %" if n_total else "…"
        line = f"downloading {name}: {n_done / 2**20:.0f} MiB, {share}"
        sys.stderr.write(f"\r{line}\033[K" if self._terminal else f"{line}\n")
        sys.stderr.flush()
        self._open = self._terminal

    def end(self) -> None:
        """Close the line."""
        if self._open:
            print(file=sys.stderr, flush=True)
            self._open = False
