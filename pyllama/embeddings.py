"""Requests for embeddings and ranks, and what comes back."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "Embeddings",
    "Ranked",
    "embeddings_body",
    "parse_embeddings",
    "parse_ranks",
    "rerank_body",
    "to_json",
]

Embeddings: TypeAlias = "npt.NDArray[np.float32]"


@dataclass(frozen=True, slots=True)
class Ranked:
    """How well a document answers a query; ``index`` is its place in the list that was given."""

    index: int
    score: float


def to_json(fields: Mapping[str, Any]) -> bytes:
    """Return fields that are not None as JSON."""
    return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()


def embeddings_body(inputs: Sequence[str | Sequence[int]], options: Mapping[str, Any]) -> bytes:
    """Return a request for one vector per input as JSON."""
    values = [text if isinstance(text, str) else list(text) for text in inputs]
    return to_json({**options, "input": values, "encoding_format": "base64"})


def parse_embeddings(answer: bytes) -> Embeddings:
    """Return the vectors of an answer, shape (n_inputs, n_embd)."""
    import numpy as np

    rows = sorted(json.loads(answer)["data"], key=lambda row: int(row["index"]))
    return np.stack([np.frombuffer(base64.b64decode(row["embedding"]), "<f4") for row in rows])


def rerank_body(query: str, documents: Sequence[str], options: Mapping[str, Any]) -> bytes:
    """Return a request to rank documents as JSON."""
    return to_json({**options, "query": query, "documents": list(documents)})


def parse_ranks(answer: bytes) -> list[Ranked]:
    """Return the ranks of an answer, the best first."""
    results = [Ranked(entry["index"], entry["relevance_score"]) for entry in json.loads(answer)["results"]]
    return sorted(results, key=lambda ranked: -ranked.score)
