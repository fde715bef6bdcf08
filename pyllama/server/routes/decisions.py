"""``POST /v1/systemone``: typed questions about a state, for models that decide."""

from __future__ import annotations

from starlette.routing import Route

from pyllama.server.generating import GeneratingEndpoint
from pyllama.server.state import ServerState

__all__ = ["routes"]


def routes(state: ServerState) -> list[Route]:
    """Return the route of decisions."""
    endpoint = GeneratingEndpoint(state, state.prepare_decision)
    return [Route(state.settings.api_prefix + "/v1/systemone", endpoint, methods=["POST"])]
