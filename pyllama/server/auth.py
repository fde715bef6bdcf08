"""API keys."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from starlette.datastructures import Headers

__all__ = ["OWNER", "ApiKeys"]

# Where the gate puts a request's owner into its scope, as bytes.
OWNER = "pyllama.owner"


class ApiKeys:
    """The keys that open the server. With none, everything is open.

    Every comparison takes the same time, whatever the key and wherever in the list it stands.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key.encode("utf-8", "surrogateescape")) for key in keys]

    def owner(self, headers: Headers) -> bytes | None:
        """Return whose request it is: a name for the key in ``Authorization: Bearer`` or ``X-Api-Key``.

        Empty when there are no keys, None when it is none of them.
        """
        given = headers.get("authorization") or headers.get("x-api-key") or ""
        # ASGI headers are bytes, which starlette shows as latin-1.
        return self.owner_of(given.removeprefix("Bearer ").encode("latin-1"))

    def owner_of(self, key: bytes) -> bytes | None:
        """As owner(), for a key."""
        if not self._digests:
            return b""
        digest = _digest(key)
        found = False
        for known in self._digests:
            found |= hmac.compare_digest(known, digest)
        return digest if found else None


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
