"""Models of a hub: found, downloaded into the cache that llama.cpp's tools share, and named by a path.

llama.cpp's own client is built without TLS here, so this does its work, in its cache layout.
"""

from __future__ import annotations

from pyllama.hub.cache import HubCache
from pyllama.hub.client import HubClient, HubError
from pyllama.hub.fetch import fetch_model, fetch_projector
from pyllama.hub.resolve import resolve_model

__all__ = ["HubCache", "HubClient", "HubError", "fetch_model", "fetch_projector", "resolve_model"]
