"""What the HTTP layer wants to know of the server's flags."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from pyllama.errors import InvalidRequestError
from pyllama.server.auth import read_priorities

__all__ = ["Settings"]

# What --timeout is when it was not given; our own limits are shorter then.
_TIMEOUT_UNSET = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The flags of the HTTP layer. Times are in seconds; names as in ``ServerParams.as_dict()``."""

    host: tuple[str, ...] = ("127.0.0.1",)
    port: int = 8080
    reuse_port: bool = False
    api_keys: tuple[str, ...] = ()
    key_priorities: Mapping[str, int] = field(default_factory=dict, repr=False)
    api_prefix: str = ""
    cors_origins: str = "*"
    cors_methods: str = "GET, POST, DELETE, OPTIONS"
    cors_headers: str = "*"
    cors_credentials: bool = True
    sse_ping_interval: float = 30.0  # zero or less: no keep-alive comments
    body_timeout: float = 30.0  # a client may send nothing of its body for so long
    write_timeout: float = 60.0  # and take nothing of its answer
    prepare_threads: int = 4  # that tokenise requests; more would only fight the decode for its cores
    shutdown_timeout: float = 10.0
    stream_retention: float = 300.0
    max_streams: int = 10_000
    max_body_bytes: int = 32 * 1024 * 1024
    media_urls: int = 1  # what images are fetched: 0 none, 1 public ones, 2 any
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
    ui: bool = True
    ui_settings: Mapping[str, Any] = field(default_factory=dict)
    static_path: str = ""
    slot_save_path: str = ""
    predict_route: str = ""  # Vertex AI's; empty: there is none
    predict_health_route: str = ""
    ssl_file_key: str = ""
    ssl_file_cert: str = ""

    @classmethod
    def from_flags(cls, flags: Mapping[str, Any]) -> Self:
        """Take the known names out of ``ServerParams.as_dict()``; lists become tuples.

        Raises:
            InvalidRequestError: ``--ui-config`` is no JSON object, or ``--key-priority`` no list of KEY=N.
        """
        known = {each.name for each in fields(cls)}
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in flags.items()
            if name in known and value is not None
        }
        timeout = flags.get("timeout_read", _TIMEOUT_UNSET)
        if timeout != _TIMEOUT_UNSET:
            values["body_timeout"] = timeout
            if values.get("write_timeout", 60) == 60:
                values["write_timeout"] = timeout
        if flags.get("threads_http", -1) > 0:
            values["prepare_threads"] = flags["threads_http"]
        if flags.get("ui_config"):
            values["ui_settings"] = _read_ui_config(flags["ui_config"])
        values["key_priorities"] = read_priorities(flags.get("key_priority", ""))
        return cls(**values)

    @property
    def tls(self) -> bool:
        """Whether the server speaks HTTPS."""
        return bool(self.ssl_file_key and self.ssl_file_cert)

    @property
    def model_name(self) -> str:
        """The model's id on the wire: the alphabetically first alias, else llama.cpp's name for it."""
        return min(self.model_alias, default=self.model_source or self.model_path)


def _read_ui_config(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as exc:
        raise InvalidRequestError(f"--ui-config is not JSON: {exc}", param="--ui-config") from None
    if not isinstance(value, dict):
        raise InvalidRequestError("--ui-config is not a JSON object", param="--ui-config")
    return value
