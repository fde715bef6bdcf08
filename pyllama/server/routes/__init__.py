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
    metrics,
    models,
    openapi,
    props,
    slots,
    streams,
    text,
)
from pyllama.server.state import ServerState

__all__ = ["all_routes"]


def all_routes(state: ServerState) -> list[Route]:
    """Return every route of the server, below ``--api-prefix``."""
    modules = (
        chat,
        completions,
        control,
        decisions,
        disabled,
        embeddings,
        health,
        lora,
        metrics,
        models,
        openapi,
        props,
        slots,
        streams,
        text,
    )
    return [route for module in modules for route in module.routes(state)]
