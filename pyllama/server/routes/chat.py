"""``POST /v1/chat/completions``: OpenAI's chat completions, streamed or whole."""

from __future__ import annotations

from starlette.routing import Route

from pyllama.server.generating import GeneratingEndpoint
from pyllama.server.state import ServerState

__all__ = ["routes"]


def routes(state: ServerState) -> list[Route]:
    """Return the chat routes."""
    endpoint = GeneratingEndpoint(state, state.prepare_chat)
    prefix = state.settings.api_prefix
    return [
        Route(prefix + path, endpoint, methods=["POST"])
        for path in ("/v1/chat/completions", "/chat/completions")
    ]
