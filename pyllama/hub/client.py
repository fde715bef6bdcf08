"""HTTP to a hub: JSON, and files that go on where they were cut off."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pyllama.errors import ModelLoadError

__all__ = ["HubClient", "HubError"]

_TIMEOUT = 60.0  # seconds without a byte
_CHUNK = 1 << 20
_JSON_BYTES = 64 << 20


class HubError(ModelLoadError):
    """A model cannot be found or downloaded; the message says why in one line."""


class _KeepToken(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but shows the token to no other host."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        if (
            new is not None
            and urllib.parse.urlsplit(newurl).netloc != urllib.parse.urlsplit(req.full_url).netloc
        ):
            new.remove_header("Authorization")
        return new


class HubClient:
    """Downloads from one hub. ``progress(name, n_done, n_total)`` is told as bytes come; n_total may be 0."""

    def __init__(
        self, endpoint: str, token: str = "", progress: Callable[[str, int, int], None] | None = None
    ) -> None:
        self.endpoint = endpoint if endpoint.endswith("/") else endpoint + "/"
        self._token = token
        self._progress = progress or (lambda name, n_done, n_total: None)
        self._opener = urllib.request.build_opener(_KeepToken)

    def files(self, repo: str) -> tuple[str, list[dict[str, Any]]]:
        """Return a repository's commit and the entries of its files.

        Raises:
            HubError: The hub does not answer, or knows no such repository.
        """
        name = urllib.parse.quote(repo)
        refs = self._json(f"{self.endpoint}api/models/{name}/refs")
        branches = refs.get("branches", []) if isinstance(refs, dict) else []
        commits = {each.get("name"): each.get("targetCommit") for each in branches if isinstance(each, dict)}
        commit = commits.get("main") or next((each for each in commits.values() if each), None)
        if not isinstance(commit, str):
            raise HubError(f"the repository {repo} has no branch")
        tree = self._json(f"{self.endpoint}api/models/{name}/tree/{commit}?recursive=true")
        if not isinstance(tree, list):
            raise HubError(f"the hub's list of files of {repo} cannot be read")
        return commit, [each for each in tree if isinstance(each, dict) and each.get("type") == "file"]

    def file_url(self, repo: str, commit: str, path: str) -> str:
        """Return the address of one file."""
        return f"{self.endpoint}{urllib.parse.quote(repo)}/resolve/{commit}/{urllib.parse.quote(path)}"

    def download(self, url: str, target: Path, sha256: str = "", etag: str = "") -> str | None:
        """Download a file and return its ETag; what an earlier attempt left behind is used.

        With the ``etag`` of a copy that is there, None says that it is still the same. The file appears when
        it is whole: until then it is ``target`` with ``.part`` behind it.

        Raises:
            HubError: It cannot be downloaded, or is not what ``sha256`` says.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + ".part")
        try:
            found = self._fetch(url, part, etag)
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 304:
                    return None
                raise HubError(
                    f"cannot download {url}: the hub answers {error.code} {error.reason}"
                ) from None
        except (OSError, http.client.HTTPException) as error:
            raise HubError(f"cannot download {url}: {_reason(error)}") from None
        if sha256 and _sha256(part) != sha256:
            part.unlink()
            raise HubError(f"cannot download {url}: what came is damaged; try again")
        os.replace(part, target)
        return found

    def _fetch(self, url: str, part: Path, etag: str) -> str:
        n_done = part.stat().st_size if part.exists() and not etag else 0
        headers = {"Range": f"bytes={n_done}-"} if n_done else {}
        if etag:
            headers["If-None-Match"] = etag
        try:
            response = self._open(url, headers)
        except urllib.error.HTTPError as error:
            if error.code != 416 or not n_done:
                raise
            error.close()  # nothing is missing, or it is another file by now
            part.unlink()
            return self._fetch(url, part, etag)
        with response:
            if response.status != 206:
                n_done = 0
            n_total = n_done + int(response.headers.get("Content-Length") or 0)
            name = Path(urllib.parse.urlsplit(url).path).name
            with part.open("ab" if n_done else "wb") as file:
                while chunk := response.read(_CHUNK):
                    file.write(chunk)
                    n_done += len(chunk)
                    self._progress(name, n_done, n_total)
            if n_done < n_total:
                raise OSError(f"it ended after {n_done} of {n_total} bytes")
            return str(response.headers.get("ETag") or "")

    def _json(self, url: str) -> Any:
        try:
            with self._open(url, {"Accept": "application/json"}) as response:
                return json.loads(response.read(_JSON_BYTES))
        except urllib.error.HTTPError as error:
            with error:
                raise HubError(f"the hub answers {error.code} {error.reason} to {url}") from None
        except ValueError:
            raise HubError(f"the hub's answer to {url} is not JSON") from None
        except (OSError, http.client.HTTPException) as error:
            raise HubError(f"the hub does not answer to {url}: {_reason(error)}") from None

    def _open(self, url: str, headers: dict[str, str]) -> Any:
        request = urllib.request.Request(url, headers={"User-Agent": "pyllama", **headers})
        if self._token and url.startswith(self.endpoint):
            request.add_header("Authorization", f"Bearer {self._token}")
        return self._opener.open(request, timeout=_TIMEOUT)


def _reason(error: BaseException) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    return str(text)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def join_names(names: Iterable[str]) -> str:
    """Return names for an error message, not all of them when there are many."""
    some = sorted(names)
    return ", ".join(some[:10]) + (", …" if len(some) > 10 else "")
