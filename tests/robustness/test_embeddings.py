"""Embeddings over HTTP, and what a server says that was not started for them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from live_server import LiveServer, check_error, http_post


@pytest.fixture(scope="module")
def embedding() -> Iterator[LiveServer]:
    with LiveServer("--embeddings", "--pooling", "mean", "--parallel", "2", "--ctx-size", "2048") as server:
        yield server


def test_every_path(embedding: LiveServer) -> None:
    status, answer = embedding.ask("/v1/embeddings", {"input": ["What is 17 + 25?", "Hello!"]})
    assert status == 200
    rows = [entry["embedding"] for entry in answer["data"]]
    assert [entry["index"] for entry in answer["data"]] == [0, 1]
    assert answer["object"] == "list"
    for path in ("/embedding", "/embeddings"):
        status, native = embedding.ask(path, {"content": ["What is 17 + 25?", "Hello!"]})
        assert status == 200
        assert [entry["embedding"] for entry in native] == [[pytest.approx(row, abs=1e-4)] for row in rows]
    # "content" is llama-server's own on OpenAI's path too.
    status, native = embedding.ask("/v1/embeddings", {"content": "Hello!"})
    assert native[0]["embedding"] == [pytest.approx(rows[1], abs=1e-4)]


def test_errors(embedding: LiveServer) -> None:
    wrong = (("/v1/embeddings", {}), ("/embedding", {"content": 5}), ("/embeddings", {"input": []}))
    for path, body in wrong:
        status, answer = embedding.ask(path, body)
        check_error(status, answer)
        assert answer["error"]["type"] == "invalid_request_error"
    status, answer = embedding.ask("/rerank", {"query": "a", "documents": ["b"]})
    check_error(status, answer, code=501)
    embedding.check_settled()


def test_clients_that_leave(embedding: LiveServer) -> None:
    for _ in range(3):
        embedding.connect(http_post({"input": ["Hello " * 30] * 500}, path="/v1/embeddings"))
    embedding.close_sockets()
    embedding.check_settled()


def test_not_started_for_it(running: LiveServer) -> None:
    for path in ("/embedding", "/embeddings", "/v1/embeddings"):
        status, answer = running.ask(path, {"input": "a"})
        message = check_error(status, answer, code=501)
        assert message == "This server does not support embeddings. Start it with `--embeddings`"
        assert answer["error"]["type"] == "not_supported_error"
    for path in ("/rerank", "/reranking", "/v1/rerank", "/v1/reranking"):
        status, answer = running.ask(path, {"query": "a", "documents": ["b"]})
        message = check_error(status, answer, code=501)
        assert message == "This server does not support reranking. Start it with `--reranking`"
