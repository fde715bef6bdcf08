"""``GET /v1/models``: the one model that is loaded."""

from __future__ import annotations

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pyllama.server.state import ServerState

__all__ = ["routes"]


def routes(state: ServerState) -> list[Route]:
    """Return the model list's routes."""

    async def get_models(_: Request) -> Response:
        return JSONResponse(_describe(state))

    prefix = state.settings.api_prefix
    return [Route(prefix + path, get_models) for path in ("/v1/models", "/models")]


def _describe(state: ServerState) -> dict[str, Any]:
    engine = state.engine
    settings = state.settings
    info = dict(engine.model_info())
    created = info.pop("created", None)
    props = engine.props()
    modalities = props.get("modalities", {})
    media = [name for name in ("image", "audio", "video") if modalities.get(_MODALITY_KEYS[name])]
    name = settings.model_name
    return {
        # Ollama's shape, which some clients ask for under the same path.
        "models": [
            {
                "name": name,
                "model": name,
                "modified_at": "",
                "size": "",
                "digest": "",
                "type": "model",
                "description": "",
                "tags": [""],
                "capabilities": ["completion", "multimodal"] if media else ["completion"],
                "parameters": "",
                "details": {
                    "parent_model": "",
                    "format": "gguf",
                    "family": "",
                    "families": [""],
                    "parameter_size": "",
                    "quantization_level": "",
                },
            }
        ],
        "object": "list",
        "data": [
            {
                "id": name,
                "aliases": sorted(settings.model_alias) or [name],
                "tags": sorted(settings.model_tags),
                "object": "model",
                "architecture": {"input_modalities": ["text", *media], "output_modalities": ["text"]},
                "created": int(time.time()) if created is None else int(created),
                "owned_by": "llamacpp",
                "status": {"value": "sleeping" if props.get("is_sleeping") else "loaded"},
                "meta": info,
            }
        ],
    }


_MODALITY_KEYS = {"image": "vision", "audio": "audio", "video": "video"}
