"""API keys."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping

from starlette.datastructures import Headers

from pyllama.errors import InvalidRequestError

__all__ = ["OWNER", "ApiKeys", "Priorities", "read_priorities"]

# Where the gate puts a request's owner into its scope, as bytes.
OWNER = "pyllama.owner"

_HIGHEST = 10


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


class Priorities:
    """What the requests of each key have in the queue, and the most that they may ask for."""

    def __init__(self, by_key: Mapping[str, int]) -> None:
        self._others = by_key.get("*", 0)
        self._by_owner = {
            _digest(key.encode("utf-8", "surrogateescape")): priority for key, priority in by_key.items()
        }

    def of(self, owner: bytes) -> int:
        """Return the priority of an owner, as ``ApiKeys`` names them."""
        return self._by_owner.get(owner, self._others)


def read_priorities(text: str) -> dict[str, int]:
    """Return what ``--key-priority`` says, by key.

    Raises:
        InvalidRequestError: It is no list of KEY=N. The message repeats no key.
    """
    found: dict[str, int] = {}
    for entry in filter(None, text.split(",")):
        key, _, number = entry.rpartition("=")
        try:
            priority = int(number)
        except ValueError:
            priority = _HIGHEST + 1
        if not key or abs(priority) > _HIGHEST:
            raise InvalidRequestError(
                f"--key-priority takes KEY=N,... with N from -{_HIGHEST} to {_HIGHEST}",
                param="--key-priority",
            )
        found[key] = priority
    return found


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
