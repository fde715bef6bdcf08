"""``POST /v1/embeddings``, llama-server's ``/embedding``, and reranking."""

from __future__ import annotations

from functools import partial

from starlette.routing import Route

from pyllama.server.generating import GeneratingEndpoint
from pyllama.server.state import ServerState

__all__ = ["routes"]

_DIALECTS = {"/embedding": "native", "/embeddings": "native", "/v1/embeddings": "openai"}
_RERANKING = ("/rerank", "/reranking", "/v1/rerank", "/v1/reranking")


def routes(state: ServerState) -> list[Route]:
    """Return the routes of embeddings and reranking."""
    prefix = state.settings.api_prefix
    ranks = GeneratingEndpoint(state, state.prepare_rerank)
    return [
        *(
            Route(
                prefix + path,
                GeneratingEndpoint(state, partial(state.prepare_embeddings, dialect=dialect)),
                methods=["POST"],
            )
            for path, dialect in _DIALECTS.items()
        ),
        *(Route(prefix + path, ranks, methods=["POST"]) for path in _RERANKING),
    ]
