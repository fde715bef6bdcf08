"""The server's OpenAPI document, served at ``/openapi.json``."""

from __future__ import annotations

from pyllama.server.openapi.document import build_document

__all__ = ["build_document"]
