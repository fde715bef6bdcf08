"""``POST /v1/responses``: OpenAI's Responses, streamed or whole."""

from __future__ import annotations

from functools import partial

from starlette.routing import Route

from pyllama.server.generating import GeneratingEndpoint
from pyllama.server.state import ServerState

__all__ = ["routes"]


def routes(state: ServerState) -> list[Route]:
    """Return the routes of responses; token counting is among the text requests."""
    endpoint = GeneratingEndpoint(state, partial(state.prepare_chat, dialect="responses"))
    prefix = state.settings.api_prefix
    return [Route(prefix + path, endpoint, methods=["POST"]) for path in ("/v1/responses", "/responses")]
