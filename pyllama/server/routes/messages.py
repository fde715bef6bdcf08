"""``POST /v1/messages``: Anthropic's Messages, streamed or whole."""

from __future__ import annotations

from functools import partial

from starlette.routing import Route

from pyllama.server.generating import GeneratingEndpoint
from pyllama.server.state import ServerState

__all__ = ["routes"]


def routes(state: ServerState) -> list[Route]:
    """Return the route of messages; token counting is among the text requests."""
    endpoint = GeneratingEndpoint(state, partial(state.prepare_chat, dialect="anthropic"))
    return [Route(state.settings.api_prefix + "/v1/messages", endpoint, methods=["POST"])]
