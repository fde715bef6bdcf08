"""Vertex AI's contract for containers: what its environment variables say.

https://cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pyllama.errors import InvalidRequestError
from pyllama.server.settings import Settings

__all__ = ["apply_environment"]


def apply_environment(settings: Settings, environ: Mapping[str, str]) -> tuple[Settings, str]:
    """Return the settings as Vertex AI wants them, and a warning, empty when nothing was overridden.

    Without ``AIP_MODE=PREDICTION`` they stay as they are.

    Raises:
        InvalidRequestError: ``AIP_HTTP_PORT`` is no port.
    """
    if environ.get("AIP_MODE") != "PREDICTION":
        return settings, ""
    port = environ.get("AIP_HTTP_PORT") or "8080"
    if not (port.isascii() and port.isdecimal() and 0 <= int(port) < 65536):
        raise InvalidRequestError(f"AIP_HTTP_PORT must be a port, but is {port!r}", param="AIP_HTTP_PORT")
    warning = ""
    if int(port) != settings.port:
        warning = f"AIP_HTTP_PORT {port} takes the place of --port {settings.port}"
    changed = replace(
        settings,
        port=int(port),
        predict_route=_route(environ.get("AIP_PREDICT_ROUTE", "")) or "/predict",
        predict_health_route=_route(environ.get("AIP_HEALTH_ROUTE", "")),
    )
    return changed, warning


def _route(value: str) -> str:
    return value if value.startswith("/") or not value else "/" + value
