"""Where the requests go: a URL taken apart, and the address behind its name."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

__all__ = ["Address", "Target", "TargetError", "resolve"]

_ENDPOINT = "/chat/completions"


class TargetError(ValueError):
    """A URL that names no server, or a server that cannot be reached."""


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint for chat completions.

    Attributes:
        host: A name or an address, an IPv6 one without its brackets.
        path: With the query, if there is one.
        insecure: Whether any certificate will do.
    """

    host: str
    port: int
    path: str = "/v1" + _ENDPOINT
    secure: bool = False
    insecure: bool = False

    @classmethod
    def parse(cls, url: str, insecure: bool = False) -> Target:
        """Take a URL apart: ``http://host:port``, the same with ``/v1`` or a prefix, or the endpoint itself.

        Raises:
            TargetError: It is not the http or https URL of a host.
        """
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            port = parts.port
        except ValueError as exc:
            raise TargetError(f"{url!r} is not a URL: {exc}") from None
        if parts.scheme not in ("http", "https"):
            raise TargetError(f"{url!r}: the scheme must be http or https")
        if not parts.hostname:
            raise TargetError(f"{url!r} names no host")
        if parts.username is not None or parts.password is not None:
            raise TargetError("a URL must not hold a user or a password")
        if not url.isascii() or any(char.isspace() for char in url):
            raise TargetError(f"{url!r}: only ASCII without spaces; encode the rest (%20, xn--...)")
        path = parts.path.rstrip("/")
        if not path.endswith(_ENDPOINT):
            path += _ENDPOINT if path.endswith("/v1") else "/v1" + _ENDPOINT
        if parts.query:
            path += f"?{parts.query}"
        secure = parts.scheme == "https"
        return cls(parts.hostname, port or (443 if secure else 80), path, secure, insecure)

    @property
    def authority(self) -> str:
        """The Host header: an IPv6 address in brackets, and the port unless it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The whole URL."""
        return f"http{'s' if self.secure else ''}://{self.authority}{self.path}"

    def tls(self) -> ssl.SSLContext | None:
        """Return what connections are secured with, None for plain ones."""
        if not self.secure:
            return None
        context = ssl.create_default_context()
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


@dataclass(frozen=True, slots=True)
class Address:
    """What a socket connects to."""

    family: socket.AddressFamily
    place: tuple[object, ...]


def resolve(target: Target, timeout_s: float) -> Address:
    """Return the first of the host's addresses that accepts a connection, so that no load has to look for it.

    Raises:
        TargetError: The name is unknown, or no address accepts one.
    """
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else exc
        raise TargetError(f"cannot find {target.host}: {reason}") from None
    reasons: list[str] = []
    for family, kind, protocol, _, place in found:
        with socket.socket(family, kind, protocol) as probe:
            probe.settimeout(timeout_s)
            try:
                probe.connect(place)
            except OSError as exc:
                reasons.append(exc.strerror or str(exc))
                continue
        return Address(family, place)
    raise TargetError(f"cannot connect to {target.authority}: {', '.join(dict.fromkeys(reasons)).lower()}")
