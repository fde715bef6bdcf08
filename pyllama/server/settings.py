"""What the HTTP layer wants to know of the server's flags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The flags of the HTTP layer. Times are in seconds; names as in ``ServerParams.as_dict()``."""

    host: tuple[str, ...] = ("127.0.0.1",)
    port: int = 8080
    reuse_port: bool = False
    api_keys: tuple[str, ...] = ()
    api_prefix: str = ""
    cors_origins: str = "*"
    cors_methods: str = "GET, POST, DELETE, OPTIONS"
    cors_headers: str = "*"
    cors_credentials: bool = True
    sse_ping_interval: float = 30.0  # zero or less: no keep-alive comments
    timeout_read: float = 3600.0
    write_timeout: float = 60.0
    shutdown_timeout: float = 10.0
    max_body_bytes: int = 32 * 1024 * 1024
    max_sockets: int = 256  # of one API key
    max_socket_requests: int = 64
    max_socket_message: int = 4 * 1024 * 1024
    queue_timeout: float = 0.0  # on a WebSocket; zero: no limit
    model_path: str = ""
    model_source: str = ""  # the name llama.cpp gives the model: from its path, repository or URL
    model_alias: tuple[str, ...] = ()
    model_tags: tuple[str, ...] = ()
    n_parallel: int = 4
    endpoint_slots: bool = True
    endpoint_props: bool = False
    endpoint_metrics: bool = False
    ssl_file_key: str = ""
    ssl_file_cert: str = ""

    @classmethod
    def from_flags(cls, flags: Mapping[str, Any]) -> Self:
        """Take the known names out of ``ServerParams.as_dict()``; lists become tuples."""
        known = {field.name for field in fields(cls)}
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in flags.items()
            if name in known and value is not None
        }
        return cls(**values)

    @property
    def tls(self) -> bool:
        """Whether the server speaks HTTPS."""
        return bool(self.ssl_file_key and self.ssl_file_cert)

    @property
    def model_name(self) -> str:
        """The model's id on the wire: the alphabetically first alias, else llama.cpp's name for it."""
        return min(self.model_alias, default=self.model_source or self.model_path)
