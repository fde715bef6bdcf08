"""The HTTP layer: llama-server's routes on Starlette, served by Hypercorn."""

from __future__ import annotations

__all__: list[str] = []
