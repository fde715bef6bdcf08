"""Calls of the native engine, without a loop."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

from pyllama._core import _llama

__all__ = ["completed", "greedy"]


def completed(engine: _llama.Engine, body: dict[str, Any]) -> Any:
    """Return the JSON that a request to ``/completion`` is answered with."""
    waker = _llama.Waker()
    with closing(waker):
        stream = engine.submit(engine.prepare_completion(json.dumps(body).encode()), waker, 1)
        while stream.state != "finished":
            waker.wait()
            waker.drain()
    if stream.error is not None:
        raise stream.error
    return json.loads(stream.read(0)[0])


def greedy(engine: _llama.Engine, prompt: str | list[int], n_tokens: int, **fields: Any) -> Any:
    """Return the answer of n_tokens tokens, with their ids; of several choices a list."""
    body = {
        "prompt": prompt,
        "n_predict": n_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "return_tokens": True,
    }
    return completed(engine, body | fields)
