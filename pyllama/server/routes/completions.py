"""Raw completions: ``POST /completion``, OpenAI's ``/v1/completions``, and ``/infill``."""

from __future__ import annotations

from functools import partial

from starlette.routing import Route

from pyllama.server.generating import GeneratingEndpoint
from pyllama.server.state import ServerState

__all__ = ["routes"]

_DIALECTS = {"/completion": "native", "/completions": "native", "/v1/completions": "openai"}


def routes(state: ServerState) -> list[Route]:
    """Return the routes of raw completions."""
    prefix = state.settings.api_prefix
    routes = [
        Route(
            prefix + path,
            GeneratingEndpoint(state, partial(state.prepare_completion, dialect=dialect)),
            methods=["POST"],
        )
        for path, dialect in _DIALECTS.items()
    ]
    routes.append(
        Route(prefix + "/infill", GeneratingEndpoint(state, state.prepare_infill), methods=["POST"])
    )
    return routes
