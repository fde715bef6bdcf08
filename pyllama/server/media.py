"""Images that a request names by a URL: fetched, and put into its body as ``data:`` URIs.

The core never opens a connection: it refuses a URL and names the field. Here the body is decoded for that
case alone, and goes back to the core with the image in it.

Whoever may send requests may make the server fetch. So, unless ``--media-urls 2`` says otherwise, only public
addresses are asked, by the address that was looked at and not by a name that may mean another one a moment
later; redirects are held to the same. A fetch has a limit of time and of bytes, takes no proxy, sends no
credentials, and shows the client nothing of what it got but whether it is an image.
"""

from __future__ import annotations

import base64
import http.client
import ipaddress
import json
import re
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import anyio
import anyio.to_thread

from pyllama.errors import InvalidRequestError

__all__ = ["MediaFetcher", "fetch"]

# Of one request.
MOST_URLS = 8
_THREADS = 8
_MOST_BYTES = 10 * 1024 * 1024
_MOST_SECONDS = 10.0
_MOST_REDIRECTS = 3
_REDIRECTS = (301, 302, 303, 307, 308)
_IN_PATH = "/%:@!$&'()*+,;=~-._"
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


class MediaFetcher:
    """Fetches images; on the server's event loop."""

    def __init__(self, allowed: int) -> None:
        self._allowed = allowed
        self._limiter = anyio.CapacityLimiter(_THREADS)

    @property
    def enabled(self) -> bool:
        """Whether anything is fetched at all."""
        return self._allowed > 0

    async def fill_in(self, body: bytes, field: str) -> bytes:
        """Return the body with the image in place of the URL in that field.

        Raises:
            InvalidRequestError: It cannot be fetched, or must not be.
        """
        return await anyio.to_thread.run_sync(_fill_in, body, field, self._allowed > 1, limiter=self._limiter)


def _fill_in(body: bytes, field: str, private: bool) -> bytes:
    request = json.loads(body)
    steps: list[Any] = [name or int(index) for name, index in _STEP.findall(field)]
    holder = request
    for step in steps[:-1]:
        holder = holder[step]
    try:
        image = fetch(holder[steps[-1]], private=private)
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = str(error) if isinstance(error, _RefusedError) else "it cannot be fetched"
        raise InvalidRequestError(f"'{field}' is a URL that is of no use: {reason}", param=field) from None
    holder[steps[-1]] = "data:image/*;base64," + base64.b64encode(image).decode()
    return json.dumps(request, ensure_ascii=False).encode()


class _RefusedError(ValueError):
    """Why, in words for the client."""


def fetch(url: str, *, private: bool = False, seconds: float = _MOST_SECONDS) -> bytes:
    """Return what is behind a URL; ``private``: it may be at an address that is not public.

    Raises:
        ValueError: It must not be fetched, is too large, or answers with another status.
        OSError: It cannot be reached in time.
    """
    deadline = time.monotonic() + seconds
    for _ in range(_MOST_REDIRECTS + 1):
        parts = urllib.parse.urlsplit(url)
        with _connected(parts, private, deadline) as connection:
            response = _ask(connection, parts)
            if response.status not in _REDIRECTS:
                return _content(response, deadline)
            url = urllib.parse.urljoin(url, response.getheader("Location", ""))
    raise _RefusedError("it is redirected too often")


def _ask(connection: http.client.HTTPConnection, parts: urllib.parse.SplitResult) -> http.client.HTTPResponse:
    target = urllib.parse.quote(parts.path or "/", safe=_IN_PATH)
    if parts.query:
        target += "?" + urllib.parse.quote(parts.query, safe=_IN_PATH + "?")
    connection.request("GET", target, headers={"Accept": "image/*", "User-Agent": "pyllama"})
    return connection.getresponse()


def _content(response: http.client.HTTPResponse, deadline: float) -> bytes:
    if response.status != 200:
        raise _RefusedError("it does not answer with an image")
    found = bytearray()
    while piece := response.read1(65536):
        _left(deadline)
        found += piece
        if len(found) > _MOST_BYTES:
            raise _RefusedError(f"it has more than {_MOST_BYTES} bytes")
    _left(deadline)  # else it may have been cut
    return bytes(found)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("it takes too long")
    return left


@contextmanager
def _connected(
    parts: urllib.parse.SplitResult, private: bool, deadline: float
) -> Iterator[http.client.HTTPConnection]:
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _RefusedError("it is neither http: nor https:")
    if parts.username is not None or parts.password is not None:
        raise _RefusedError("it has a user name in it")
    tls = parts.scheme == "https"
    port = parts.port or (443 if tls else 80)
    stream = _open(parts.hostname, port, private, deadline)
    if tls:
        context = ssl.create_default_context()
        stream = context.wrap_socket(stream, server_hostname=parts.hostname, do_handshake_on_connect=False)
    # A timeout of the socket begins again with each byte that trickles in.
    timer = threading.Timer(_left(deadline), _cut, [stream])
    timer.daemon = True
    timer.start()
    try:
        if isinstance(stream, ssl.SSLSocket):
            stream.do_handshake()
        connection = http.client.HTTPConnection(parts.hostname, port)
        if tls:
            connection.default_port = 443  # which the Host header does not name
        connection.sock = stream
        yield connection
    finally:
        timer.cancel()
        stream.close()


def _cut(stream: socket.socket) -> None:
    with suppress(OSError):
        stream.shutdown(socket.SHUT_RDWR)


def _open(host: str, port: int, private: bool, deadline: float) -> socket.socket:
    """Connect to the first address that answers; all of them must be public ones."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    if not private and not all(_is_public(str(address[0])) for *_, address in found):
        raise _RefusedError("its address is not a public one (--media-urls)")
    failure = OSError("it has no address")
    for family, kind, protocol, _, address in found:
        stream = socket.socket(family, kind, protocol)
        try:
            stream.settimeout(_left(deadline))
            stream.connect(address)
        except OSError as error:
            stream.close()
            failure = error
        else:
            return stream
    raise failure


def _is_public(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        # What an IPv4 address is hidden in goes to that address.
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and address in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return _is_public(str(inner))
    return address.is_global and not address.is_multicast
