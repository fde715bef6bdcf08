"""The routes, one module per group."""

from __future__ import annotations

from starlette.routing import Route

from pyllama.server.routes import (
    chat,
    completions,
    control,
    decisions,
    disabled,
    embeddings,
    health,
    lora,
    messages,
    metrics,
    models,
    openapi,
    props,
    responses,
    slots,
    streams,
    text,
    vertex,
)
from pyllama.server.state import ServerState

__all__ = ["all_routes"]


_MODULES = (
    chat,
    completions,
    control,
    decisions,
    disabled,
    embeddings,
    health,
    lora,
    messages,
    metrics,
    models,
    openapi,
    props,
    responses,
    slots,
    streams,
    text,
)


def all_routes(state: ServerState) -> list[Route]:
    """Return every route of the server, below ``--api-prefix``.

    Raises:
        InvalidRequestError: A route of Vertex AI's environment is taken already.
    """
    routes: list[Route] = []
    for module in _MODULES:
        routes += module.routes(state)
    return routes + vertex.routes(state, routes)
