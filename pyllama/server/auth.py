"""API keys."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from starlette.datastructures import Headers

__all__ = ["ApiKeys"]


class ApiKeys:
    """The keys that open the server. With none, everything is open.

    Every comparison takes the same time, whatever the key and wherever in the list it stands.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key.encode("utf-8", "surrogateescape")) for key in keys]

    def allow(self, headers: Headers) -> bool:
        """Whether ``Authorization: Bearer`` or ``X-Api-Key`` carries one of the keys."""
        if not self._digests:
            return True
        given = headers.get("authorization") or headers.get("x-api-key") or ""
        # ASGI headers are bytes, which starlette shows as latin-1.
        digest = _digest(given.removeprefix("Bearer ").encode("latin-1"))
        found = False
        for known in self._digests:
            found |= hmac.compare_digest(known, digest)
        return found


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
