"""What the tests of embeddings share: calls of the core, and when two embeddings are equal."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from pyllama._core import _llama

Floats = npt.NDArray[np.float32]


def body_of(core: _llama.Engine, prepared: _llama.Prepared) -> Any:
    """Submit and wait for the answer."""
    waker = _llama.Waker()
    stream = core.submit(prepared, waker, 1)
    while stream.state != "finished":
        waker.wait()
        waker.drain()
    if stream.error is not None:
        raise stream.error
    data, _, finished, _ = stream.read(0, 1 << 30)
    assert finished
    return json.loads(data)


def embed(core: _llama.Engine, dialect: str = "openai", **fields: Any) -> Any:
    return body_of(core, core.prepare_embeddings(json.dumps(fields).encode(), dialect))


def vectors(answer: Any) -> Floats:
    return np.array([entry["embedding"] for entry in answer["data"]], np.float32)


def check_equal(found: npt.ArrayLike, expected: Floats) -> None:
    """Equal but for rounding: other batch shapes, 16-bit floats in the KV cache."""
    atol = 2e-3 * float(np.abs(expected).max())
    np.testing.assert_allclose(np.asarray(found), expected, rtol=0, atol=atol)


def unit(rows: Floats) -> Floats:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)
