"""Which projector ``--mmproj-url`` means, or belongs to the model of ``--hf-repo``, by llama.cpp's rules."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from pyllama.hub.cache import HubCache
from pyllama.hub.client import HubClient, HubError
from pyllama.hub.resolve import download_url, fetch_entry

__all__ = ["choose_projector", "resolve_projector"]

_QUANT = re.compile(r"[-.](?:[A-Za-z]*?)(\d+)[^-./]*(?:-\d{5}-of-\d{5})?\.gguf$", re.IGNORECASE)


def resolve_projector(
    flags: dict[str, Any],
    model: Path | None,
    *,
    endpoint: str,
    hub_cache: Path,
    file_cache: Path,
    progress: Callable[[str, int, int], None] | None = None,
) -> Path | None:
    """Return the projector that the flags name by a hub or a URL, downloaded; None when they name none.

    ``model`` is what ``resolve_model()`` returned. A projector that is found beside a repository's model is
    taken unless ``--no-mmproj`` says otherwise.

    Raises:
        HubError: It cannot be downloaded.
    """
    if flags["mmproj_path"] or not flags["mmproj_auto"]:
        return None
    client = HubClient(endpoint, flags["hf_token"], progress)
    if flags["mmproj_url"]:
        return download_url(client, flags["mmproj_url"], file_cache, offline=flags["offline"])
    if model is None or not flags["hf_repo"]:
        return None
    repo = flags["hf_repo"].partition(":")[0]
    cache = HubCache(hub_cache, repo)
    known = cache.snapshot()
    name = next((path for path, place in known.items() if place == model), model.name)
    if not flags["offline"]:
        try:
            commit, entries = client.files(repo)
            files = {str(entry.get("path", "")): entry for entry in entries}
            chosen = choose_projector(files, name)
            return None if chosen is None else fetch_entry(client, cache, repo, commit, files[chosen])
        except HubError:
            if choose_projector(known, name) is None:
                raise
        except ValueError as error:
            raise HubError(f"the repository {repo} cannot be used: {error}") from None
    chosen = choose_projector(known, name)
    return None if chosen is None else known[chosen]


def choose_projector(paths: Iterable[str], model: str) -> str | None:
    """Return the projector that is nearest to a model: deepest in its own folders, then alike in its bits."""
    folders = PurePosixPath(model).parent.parts
    best: str | None = None
    best_rank: tuple[int, int] | None = None
    for path in paths:
        parts = PurePosixPath(path).parent.parts
        if not path.endswith(".gguf") or "mmproj" not in path or folders[: len(parts)] != parts:
            continue
        rank = (-len(parts), abs(_bits(path) - _bits(model)))
        if best_rank is None or rank < best_rank:
            best, best_rank = path, rank
    return best


def _bits(path: str) -> int:
    found = _QUANT.search(path)
    return int(found[1]) if found else 0
