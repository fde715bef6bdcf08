"""Random and hostile bodies for OpenAI's Responses, Anthropic's Messages and Vertex AI."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from live_server import LiveServer, http_post
from test_random_bodies import json_values, texts

RESPONSES = "/v1/responses"
MESSAGES = "/v1/messages"
COUNTING = ["/v1/responses/input_tokens", "/v1/messages/count_tokens"]

many = settings(
    max_examples=250,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def running() -> Iterator[LiveServer]:
    os.environ.update(AIP_MODE="PREDICTION", AIP_HTTP_PORT="0")
    try:
        server = LiveServer("--parallel", "2", "--ctx-size", "8192")
    finally:
        del os.environ["AIP_MODE"], os.environ["AIP_HTTP_PORT"]
    with server:
        yield server


def mostly(right: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Give what is right three times in four, so that generation is reached too."""
    return st.one_of(right, right, right, json_values)


def records(*kinds: str, **members: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Give objects of some kinds with some of the members."""
    optional = {name: mostly(value) for name, value in members.items()}
    return st.fixed_dictionaries({"type": st.sampled_from(kinds)}, optional=optional)


PARTS = st.lists(
    records("input_text", "output_text", "refusal", "text", "input_file", "x", text=texts), max_size=3
)
ITEMS = st.one_of(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "system", "x"])},
        optional={"content": mostly(texts | PARTS)},
    ),
    records("reasoning", content=PARTS, summary=PARTS),
    records("function_call", call_id=texts, name=texts, arguments=texts),
    records("function_call_output", call_id=texts, output=texts | PARTS),
    records("item_reference", "computer_call", "message", id=texts),
)
TOOLS = st.lists(records("function", "web_search", name=texts, parameters=json_values), max_size=2)
RESPONSE_FIELDS = {
    "input": mostly(texts | st.lists(ITEMS, max_size=4)),
    "instructions": mostly(texts),
    "tools": mostly(TOOLS),
    "tool_choice": st.sampled_from(["auto", "none", "required", {"type": "function", "name": "f"}, 5]),
    "text": mostly(
        st.fixed_dictionaries({"format": records("text", "json_object", "json_schema", schema=json_values)})
    ),
    "reasoning": mostly(st.fixed_dictionaries({"effort": texts})),
    "metadata": json_values,
    "include": mostly(st.just(["message.output_text.logprobs"])),
    "stream": mostly(st.booleans()),
    "previous_response_id": st.none() | texts,
}

BLOCKS = st.lists(
    st.one_of(
        records("text", text=texts),
        records("thinking", thinking=texts),
        records("tool_use", id=texts, name=texts, input=st.dictionaries(texts, texts, max_size=2)),
        records("tool_result", tool_use_id=texts, content=texts, is_error=st.booleans()),
        records("image", "document", "x"),
    ),
    max_size=3,
)
TURNS = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "user", "x"])},
    optional={"content": mostly(texts | BLOCKS)},
)
MESSAGE_FIELDS = {
    "messages": mostly(st.lists(TURNS, max_size=4)),
    "system": mostly(texts | BLOCKS),
    "tools": mostly(
        st.lists(st.fixed_dictionaries({"name": texts}, optional={"input_schema": json_values}), max_size=2)
    ),
    "tool_choice": mostly(records("auto", "any", "tool", "none", "x", name=texts)),
    "thinking": mostly(records("enabled", "disabled", budget_tokens=st.integers(-2, 5))),
    "stop_sequences": mostly(st.lists(texts, max_size=3)),
    "output_config": mostly(st.fixed_dictionaries({"format": records("json_schema", schema=json_values)})),
    "stream": mostly(st.booleans()),
}


def bodies(fields: dict[str, st.SearchStrategy[Any]], needed: str) -> st.SearchStrategy[dict[str, Any]]:
    others = {name: value for name, value in fields.items() if name != needed}
    return st.fixed_dictionaries({needed: fields[needed]}, optional=others)


def check(status: int, raw: bytes, path: str, body: dict[str, Any]) -> None:
    if status != 200:
        assert status == 400 or (status == 500 and b"image input is not supported" in raw), raw
        answer = json.loads(raw)
        assert answer["error"]["code"] == status
        assert ("type" in answer) == (path == MESSAGES)
    elif body.get("stream"):
        last = raw.rstrip(b"\n").split(b"\n\n")[-1]
        assert last.startswith(
            (b"event: response.completed", b"event: response.incomplete", b"event: message_stop")
        )
    else:
        assert json.loads(raw)["id"]


@many
@given(body=bodies(RESPONSE_FIELDS, "input"))
def test_random_responses(running: LiveServer, body: dict[str, Any]) -> None:
    body = {**body, "max_output_tokens": 2}
    check(*running.request("POST", RESPONSES, json.dumps(body).encode()), RESPONSES, body)


@many
@given(body=bodies(MESSAGE_FIELDS, "messages"))
def test_random_messages(running: LiveServer, body: dict[str, Any]) -> None:
    body = {**body, "max_tokens": 2}
    check(*running.request("POST", MESSAGES, json.dumps(body).encode()), MESSAGES, body)


@many
@given(
    instances=st.lists(
        json_values
        | st.fixed_dictionaries(
            {
                "@requestFormat": st.sampled_from(
                    ["chatCompletions", "messages", "responses", "tokenize", "predict", "props", ""]
                )
            },
            optional={
                "messages": json_values,
                "input": json_values,
                "content": json_values,
                "stream": json_values,
            },
        ),
        max_size=4,
    )
)
def test_random_predictions(running: LiveServer, instances: list[Any]) -> None:
    instances = [
        {**each, "max_tokens": 1, "max_output_tokens": 1} if isinstance(each, dict) else each
        for each in instances
    ]
    status, answer = running.ask("/predict", {"instances": instances})
    assert status == 200
    assert len(answer["predictions"]) == len(instances)


HOSTILE = [
    b"[" * 100_000,
    b'{"input":' * 1000,
    b'{"messages":[' + b'{"role":"user","content":[' * 200,
    b'{"input":"\xff"}',
    b'{"input":"\\ud800"}',
    b'{"input":1e999}',
    json.dumps({"input": "x" * 200_000, "messages": [{"role": "user", "content": "x" * 200_000}]}).encode(),
    json.dumps(
        {
            "input": [],
            "messages": [{"role": "assistant", "content": [{"type": "thinking", "thinking": "x" * 200_000}]}],
        }
    ).encode(),
    json.dumps(
        {"input": "hi", "messages": [], "tools": [{"type": "function", "name": str(i)} for i in range(600)]}
    ).encode(),
    json.dumps({"input": "hi", "messages": [], "n": 2**40}).encode(),
    json.dumps({"input": "hi", "messages": [], "max_tokens": 2**40, "max_output_tokens": 2**40}).encode(),
    json.dumps(
        {
            "messages": [
                {
                    "role": "assistant",
                    "content": [
                        {
                            "type": "tool_use",
                            "id": "1",
                            "name": "f",
                            "input": {str(i): 1 for i in range(5000)},
                        }
                    ],
                }
            ]
        }
    ).encode(),
    json.dumps(
        {"input": [{"type": "function_call", "call_id": "1", "name": "f", "arguments": "[" * 100_000}]}
    ).encode(),
]


@pytest.mark.parametrize("path", [RESPONSES, MESSAGES, *COUNTING, "/predict"])
@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_bodies(server: LiveServer, path: str, body: bytes) -> None:
    status, answer = server.post(body, path)
    assert status in (200, 400), answer
    if status == 400:
        assert len(answer["error"]["message"]) < 1000


def test_a_large_schema_of_each_dialect(server: LiveServer) -> None:
    schema = {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(600)}}
    form = {"format": {"type": "json_schema", "name": "n", "schema": schema}}
    for path, body in (
        (RESPONSES, {"input": "hi", "text": form}),
        (MESSAGES, {"messages": [], "output_config": form}),
        (RESPONSES, {"input": "hi", "tools": [{"type": "function", "name": "f", "parameters": schema}]}),
        (MESSAGES, {"messages": [], "tools": [{"name": "f", "input_schema": schema}]}),
    ):
        status, answer = server.ask(path, body)
        assert status == 400
        assert answer["error"]["param"].endswith(("schema", "parameters"))


def test_leaving_a_stream_of_each_dialect_frees_its_slot(server: LiveServer) -> None:
    for path, body in (
        (RESPONSES, {"input": "hi", "max_output_tokens": -1}),
        (MESSAGES, {"messages": [{"role": "user", "content": "hi"}], "max_tokens": -1}),
    ):
        for _ in range(3):
            client = server.connect(http_post({**body, "ignore_eos": True, "stream": True}, path=path))
            assert client.recv(1)
            client.close()
    server.check_settled()
