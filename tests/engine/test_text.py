"""Tokenising on the engine's core: no slot, no stream."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from pyllama._core import _llama
from pyllama.errors import ClosedError, InvalidRequestError
from pyllama.models import demo_model_path


@pytest.fixture(scope="module")
def core() -> Iterator[_llama.Engine]:
    params = _llama.ServerParams(["--model", str(demo_model_path()), "--ctx-size", "512", "--threads", "1"])
    core = _llama.Engine(params)
    yield core
    core.close()


def test_text_to_tokens_and_back(core: _llama.Engine) -> None:
    text = "What is 17 + 25?"
    tokens = core.tokenize(text)
    assert core.detokenize(tokens) == text
    body = json.dumps({"content": text}).encode()
    assert json.loads(core.answer_text("tokenize", body)) == {"tokens": tokens}


def test_errors(core: _llama.Engine) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        core.detokenize([-1])
    assert caught.value.param == "tokens"
    with pytest.raises(InvalidRequestError):
        core.answer_text("sing", b"{}")
    with pytest.raises(InvalidRequestError):
        core.tokenize("\ud800")  # half of a surrogate pair is no text


def test_after_close() -> None:
    params = _llama.ServerParams(["--model", str(demo_model_path()), "--ctx-size", "512", "--threads", "1"])
    core = _llama.Engine(params)
    core.close()
    with pytest.raises(ClosedError):
        core.tokenize("a")
