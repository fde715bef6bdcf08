"""Listening sockets, bound by us so that a busy port is one clear line and not a traceback."""

from __future__ import annotations

import contextlib
import os
import socket
import stat

from pyllama.server.settings import Settings

__all__ = ["BindError", "bind_all", "describe"]


_MAX_PORT = 65_535


class BindError(OSError):
    """An address cannot be bound; the message says which and why."""


def bind_all(settings: Settings) -> list[socket.socket]:
    """Bind every host of ``--host`` (``*.sock`` is a Unix socket), without listening yet.

    Raises:
        BindError: Nothing is left bound.
    """
    tcp = [host for host in settings.host if not host.endswith(".sock")]
    if not 0 <= settings.port <= _MAX_PORT:  # the resolver would take it modulo 65,536
        raise BindError(f"--port {settings.port}: a port is a number from 0 to {_MAX_PORT}")
    if settings.port == 0 and len(tcp) > 1:
        raise BindError("--port 0 is not supported with multiple TCP addresses")
    bound: list[socket.socket] = []
    try:
        for host in settings.host:
            if host.endswith(".sock"):
                bound.append(_bind_unix(host))
            else:
                bound.append(_bind_tcp(host, settings, only_v6=len(tcp) > 1))
    except BindError:
        for sock in bound:
            sock.close()
        raise
    return bound


def _bind_tcp(host: str, settings: Settings, *, only_v6: bool) -> socket.socket:
    port = settings.port
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as exc:
        raise BindError(f"cannot listen on {host}: {exc.strerror or exc}") from exc
    family, kind, protocol, _, address = found[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if settings.reuse_port and hasattr(socket, "SO_REUSEPORT"):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6 and only_v6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except OSError as exc:
        sock.close()
        reason = os.strerror(exc.errno).lower() if exc.errno else str(exc)
        raise BindError(f"cannot listen on {host} port {port}: {reason}; choose another with --port") from exc
    sock.setblocking(False)
    return sock


def _bind_unix(path: str) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.stat(path).st_mode) and not _answers(path):
            os.unlink(path)  # left by a server that is gone
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
    except OSError as exc:
        sock.close()
        raise BindError(f"cannot listen on {path}: {exc.strerror or exc}") from exc
    sock.setblocking(False)
    return sock


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
        return True


def describe(sock: socket.socket, *, tls: bool) -> str:
    """Return the address of a bound socket as a URL."""
    if sock.family == socket.AF_UNIX:
        return f"unix://{sock.getsockname()}"
    host, port = sock.getsockname()[:2]
    scheme = "https" if tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
