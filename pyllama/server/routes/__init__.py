"""The routes, one module per group."""

from __future__ import annotations

from starlette.routing import Route

from pyllama.server.routes import (
    chat,
    completions,
    control,
    embeddings,
    health,
    metrics,
    models,
    props,
    slots,
    text,
)
from pyllama.server.state import ServerState

__all__ = ["all_routes"]


def all_routes(state: ServerState) -> list[Route]:
    """Return every route of the server, below ``--api-prefix``."""
    routes: list[Route] = []
    for module in (chat, completions, control, embeddings, health, metrics, models, props, slots, text):
        routes += module.routes(state)
    return routes
