"""Which file ``--hf-repo``, ``--hf-file`` and ``--model-url`` mean, by llama.cpp's rules."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pyllama.hub.cache import HubCache
from pyllama.hub.client import HubClient, HubError, join_names

__all__ = ["choose_file", "download_url", "fetch_entry", "resolve_model", "split_files"]

_REPO = re.compile(r"[A-Za-z0-9_]+(?:[.-][A-Za-z0-9_]+)*/[A-Za-z0-9_]+(?:[.-][A-Za-z0-9_]+)*")
_SPLIT = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE)
# What is no language model: projectors, importance matrices, and the sidecars of speculative decoding.
_SIDECAR = re.compile(r"mmproj|imatrix|(?:^|/)(?:mtp|eagle3|dflash|dspark)-", re.IGNORECASE)
# Without a tag, the usual compromise first.
_PREFERRED = ("Q4_K_M", "Q8_0")


def resolve_model(
    flags: dict[str, Any],
    *,
    endpoint: str,
    hub_cache: Path,
    file_cache: Path,
    progress: Callable[[str, int, int], None] | None = None,
) -> Path | None:
    """Return the model file that the flags name by a hub or a URL, downloaded; None when they name none.

    ``flags`` is what ``ServerParams.as_dict()`` returns.

    Raises:
        HubError: It cannot be found or downloaded.
    """
    client = HubClient(endpoint, flags["hf_token"], progress)
    if flags["hf_repo"]:
        return _from_repository(flags, client, hub_cache)
    if flags["model_url"]:
        return _from_url(flags, client, file_cache)
    return None


def choose_file(paths: Iterable[str], tag: str) -> str | None:
    """Return the model file that a ``:tag`` means, of several parts the first; None when none fits."""
    models = [path for path in paths if path.lower().endswith(".gguf") and not _SIDECAR.search(path)]
    firsts = [path for path in models if (split := _SPLIT.fullmatch(path)) is None or int(split[2]) == 1]
    for wanted in (tag,) if tag else _PREFERRED:
        pattern = re.compile(re.escape(wanted) + "[.-]", re.IGNORECASE)
        for path in firsts:
            if pattern.search(path):
                return path
    return None if tag else next(iter(firsts), None)


def split_files(paths: Iterable[str], chosen: str) -> list[str]:
    """Return all parts of the model whose first part was chosen."""
    split = _SPLIT.fullmatch(chosen)
    if split is None:
        return [chosen]
    parts = [path for path in paths if (m := _SPLIT.fullmatch(path)) and (m[1], m[3]) == (split[1], split[3])]
    if len(parts) != int(split[3]):
        raise HubError(f"of {chosen}, {len(parts)} of {int(split[3])} parts are there")
    return sorted(parts)


def _from_repository(flags: dict[str, Any], client: HubClient, root: Path) -> Path:
    repo, _, tag = flags["hf_repo"].partition(":")
    if not _REPO.fullmatch(repo):
        raise HubError(f"--hf-repo {repo}: expected USER/MODEL[:QUANT]")
    cache = HubCache(root, repo)
    known = cache.snapshot()
    if flags["offline"]:
        return _from_cache(repo, tag, flags["hf_file"], known)
    try:
        commit, entries = client.files(repo)
    except HubError:
        if known:  # without a network, what is there is better than nothing
            return _from_cache(repo, tag, flags["hf_file"], known)
        raise
    files = {str(entry.get("path", "")): entry for entry in entries}
    chosen = _chosen(repo, tag, flags["hf_file"], files)
    try:
        cache.note_commit(commit)
        places = [
            fetch_entry(client, cache, repo, commit, files[path]) for path in split_files(files, chosen)
        ]
    except ValueError as error:
        raise HubError(f"the repository {repo} cannot be used: {error}") from None
    return places[0]


def _from_cache(repo: str, tag: str, file: str, known: dict[str, Path]) -> Path:
    if not known:
        raise HubError(f"{repo} is not in the cache, and --offline forbids to download it")
    chosen = _chosen(repo, tag, file, known)
    return known[split_files(known, chosen)[0]]


def _chosen(repo: str, tag: str, file: str, paths: Iterable[str]) -> str:
    paths = list(paths)
    chosen = choose_file(paths, tag) if not file else file if file in paths else None
    if chosen is None:
        wanted = file or (f"model :{tag}" if tag else "model")
        there = join_names(path for path in paths if path.lower().endswith(".gguf")) or "no GGUF file"
        raise HubError(f"{repo} has no {wanted}; there is {there}")
    return chosen


def fetch_entry(client: HubClient, cache: HubCache, repo: str, commit: str, entry: dict[str, Any]) -> Path:
    """Return where a file of a repository is, downloaded unless it is there.

    Raises:
        HubError: It cannot be downloaded.
        ValueError: Its path leads out of the cache.
    """
    path = str(entry["path"])
    place = cache.place(commit, path)
    if place.exists():
        return place
    lfs = entry.get("lfs")
    oid = str((lfs if isinstance(lfs, dict) else entry).get("oid", ""))
    blob = cache.blob(oid)
    if blob is None or not blob.exists():
        sha256 = oid if isinstance(lfs, dict) and len(oid) == 64 else ""
        client.download(client.file_url(repo, commit, path), blob or place, sha256)
    if blob is not None:
        cache.link(blob, place)
    return place


def _from_url(flags: dict[str, Any], client: HubClient, folder: Path) -> Path:
    url = flags["model_url"]
    name = Path(urllib.parse.unquote(urllib.parse.urlsplit(url).path)).name
    if not name:
        raise HubError(f"--model-url {url} names no file")
    first = Path(flags["model_path"]) if flags["model_path"] else folder / name
    split = _SPLIT.fullmatch(name)
    names = (
        [name]
        if split is None
        else [f"{split[1]}-{i:05}-of-{split[3]}.gguf" for i in range(1, int(split[3]) + 1)]
    )
    for part in names:
        target = first.with_name(first.name.replace(name, part)) if len(names) > 1 else first
        _refresh(client, url.replace(name, part), target, offline=flags["offline"])
    return first.with_name(names[0]) if len(names) > 1 else first


def download_url(client: HubClient, url: str, folder: Path, *, offline: bool) -> Path:
    """Return the file of a URL, downloaded into the folder unless it is there as the URL has it.

    Raises:
        HubError: It cannot be downloaded, or has no name.
    """
    name = Path(urllib.parse.unquote(urllib.parse.urlsplit(url).path)).name
    if not name:
        raise HubError(f"{url} names no file")
    _refresh(client, url, folder / name, offline=offline)
    return folder / name


def _refresh(client: HubClient, url: str, target: Path, *, offline: bool) -> None:
    note = target.with_name(target.name + ".etag")
    etag = note.read_text().strip() if target.exists() and note.exists() else ""
    if offline:
        if not target.exists():
            raise HubError(f"{target} is not there, and --offline forbids to download it")
        return
    try:
        found = client.download(url, target, etag=etag)
    except HubError:
        if not target.exists():
            raise
        return  # as good as it was
    if found is not None:
        note.write_text(found)
