"""Tokenising and templates over HTTP: what is asked without a slot."""

from __future__ import annotations

from typing import Any

import pytest
from live_server import QUESTION, LiveServer, check_error


def test_round_trip(running: LiveServer) -> None:
    status, answer = running.ask("/tokenize", {"content": "What is 17 + 25?"})
    assert status == 200
    status, answer = running.ask("/detokenize", answer)
    assert (status, answer) == (200, {"content": "What is 17 + 25?"})


def test_template_and_count(running: LiveServer) -> None:
    status, answer = running.ask("/apply-template", {"messages": QUESTION})
    assert status == 200
    assert QUESTION[0]["content"] in answer["prompt"]
    _, tokens = running.ask("/tokenize", {"content": answer["prompt"], "add_special": True})
    status, count = running.ask("/v1/chat/completions/input_tokens", {"messages": QUESTION})
    assert (status, count["input_tokens"]) == (200, len(tokens["tokens"]))


@pytest.mark.parametrize(
    ("path", "field", "body"),
    [
        ("/tokenize", "content", {"content": 1}),
        ("/tokenize", "content", {"content": [10**9]}),
        ("/detokenize", "tokens", {"tokens": ["a"]}),
        ("/detokenize", "tokens", {"tokens": [-(10**18)]}),
        ("/apply-template", "messages", {}),
        ("/chat/completions/input_tokens", "messages[0].role", {"messages": [{}]}),
    ],
)
def test_errors(running: LiveServer, path: str, field: str, body: dict[str, Any]) -> None:
    status, answer = running.ask(path, body)
    check_error(status, answer)
    assert answer["error"]["param"] == field


def test_a_text_without_breaks(running: LiveServer) -> None:
    status, answer = running.ask("/tokenize", {"content": "a" * 1_500_000})
    check_error(status, answer)
    status, answer = running.ask("/tokenize", {"content": "a" * 100_000})
    assert status == 200
    assert answer["tokens"]
