"""What the OpenAPI document promises, against a real server: no 5xx, and no status or body besides.

A short seeded run; ``make fuzz-http`` makes a long one of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from live_server import LiveServer
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from pyllama.server.openapi import build_document

EXAMPLES = int(os.environ.get("PYLLAMA_HTTP_EXAMPLES", "6"))
SEED = int(os.environ.get("PYLLAMA_FUZZ_SEED", "20"))
CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
# Long answers are not what this is about.
FLAGS = ("--ctx-size", "512", "--parallel", "2", "--predict", "4", "--props", "--slots", "--timeout", "20")
SCHEMA = schemathesis.openapi.from_dict(build_document())
OPERATIONS = [result.ok() for result in SCHEMA.get_all_operations()]


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with LiveServer(*FLAGS) as answering:
        yield answering
        answering.close_sockets()
        answering.check_settled()
        assert answering.said() == ""  # whatever a client sends, the log is not its to write into


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.label)
def test_operation(operation: schemathesis.APIOperation, server: LiveServer) -> None:
    base = f"http://127.0.0.1:{server.port}"

    @seed(SEED)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy() | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def promises(case: schemathesis.Case) -> None:
        response = case.call(base_url=base, timeout=60)
        case.validate_response(response, checks=CHECKS)
        if response.status_code != 501:
            case.validate_response(response, checks=[not_a_server_error])

    promises()
    assert server.process.poll() is None, server.said()


QUESTION = {"stream": True, "messages": [{"role": "user", "content": "What is 17 + 25?"}]}
STREAMED = {
    "/v1/chat/completions": QUESTION,
    "/v1/completions": {"stream": True, "prompt": "17 + 25"},
    "/completion": {"stream": True, "prompt": "17 + 25"},
    "/v1/messages": QUESTION | {"max_tokens": 4},
    "/v1/responses": {"stream": True, "input": "What is 17 + 25?"},
}


@pytest.mark.parametrize("path", STREAMED)
def test_stream(path: str, server: LiveServer) -> None:
    case = SCHEMA[path]["POST"].Case(body=STREAMED[path], media_type="application/json")
    response = case.call(base_url=f"http://127.0.0.1:{server.port}", timeout=60)
    assert response.status_code == 200
    assert response.headers["content-type"] == ["text/event-stream"]
    case.validate_response(response, checks=CHECKS)
