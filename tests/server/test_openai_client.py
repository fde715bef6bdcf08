"""The unmodified OpenAI client against a server process with the demo model."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from real_server import WEATHER_SCHEMA, running_server

QUESTION = [{"role": "user", "content": "What is 17 + 25?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city",
        "parameters": WEATHER_SCHEMA,
    },
}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    flags = ("--parallel", "2", "--ctx-size", "2048", "--metrics", "--api-key", "secret")
    with running_server(*flags) as port:
        yield port


@pytest.fixture
def client(port: int) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="secret", max_retries=0) as client:
        yield client


def ask(client: openai.OpenAI, **fields: Any) -> Any:
    fields = {"model": "any", "messages": QUESTION, "temperature": 0, "max_tokens": 400, **fields}
    return client.chat.completions.create(**fields)


def test_whole_answer_has_its_reasoning_apart(client: openai.OpenAI) -> None:
    answer = ask(client)
    (choice,) = answer.choices
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    assert choice.finish_reason == "stop"
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.message.reasoning_content
    assert "<think>" not in choice.message.content
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_stream_adds_up_to_the_whole_answer(client: openai.OpenAI) -> None:
    whole = ask(client).choices[0]
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas) == whole.message.content
    reasoning = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
    assert reasoning == whole.message.reasoning_content
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert len({chunk.id for chunk in chunks}) == 1
    assert len(deltas) > 3


def test_choices_of_a_whole_answer(client: openai.OpenAI) -> None:
    single = ask(client)
    both = ask(client, n=2)
    assert [choice.index for choice in both.choices] == [0, 1]
    assert [choice.message.content for choice in both.choices] == [single.choices[0].message.content] * 2
    assert [choice.finish_reason for choice in both.choices] == ["stop", "stop"]
    assert both.usage.prompt_tokens == single.usage.prompt_tokens
    assert both.usage.completion_tokens == 2 * single.usage.completion_tokens


def test_choices_of_a_stream(client: openai.OpenAI) -> None:
    sampled = {"n": 2, "seed": 3, "temperature": 1.5, "max_tokens": 40, "logprobs": True}
    whole = ask(client, **sampled)
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}, **sampled))
    assert len({chunk.id for chunk in chunks}) == 1
    for index, expected in enumerate(whole.choices):
        own = [chunk.choices[0] for chunk in chunks if chunk.choices and chunk.choices[0].index == index]
        assert own[0].delta.role == "assistant"
        assert "".join(choice.delta.content or "" for choice in own) == (expected.message.content or "")
        assert [choice.finish_reason for choice in own if choice.finish_reason] == [expected.finish_reason]
        tokens = [entry.token for choice in own if choice.logprobs for entry in choice.logprobs.content]
        assert tokens == [entry.token for entry in expected.logprobs.content]
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert [bool(chunk.usage) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]


def test_choices_with_a_tool_and_with_a_schema(client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": "What is the weather in Paris?"}]
    called = ask(client, messages=messages, tools=[WEATHER], tool_choice="required", n=2)
    for choice in called.choices:
        assert choice.finish_reason == "tool_calls"
        assert isinstance(json.loads(choice.message.tool_calls[0].function.arguments)["city"], str)
    schema = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    for choice in ask(client, response_format=form, n=2).choices:
        assert isinstance(json.loads(choice.message.content)["sum"], int)


def test_max_tokens(client: openai.OpenAI) -> None:
    answer = ask(client, max_tokens=3)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 3


def test_required_tool_call(client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": "What is the weather in Paris?"}]
    fields = {"messages": messages, "tools": [WEATHER], "tool_choice": "required"}
    message = ask(client, **fields).choices[0].message
    (call,) = message.tool_calls
    assert call.function.name == "get_weather"
    assert isinstance(json.loads(call.function.arguments)["city"], str)

    pieces = [
        piece
        for chunk in ask(client, stream=True, **fields)
        if chunk.choices
        for piece in chunk.choices[0].delta.tool_calls or ()
    ]
    assert pieces[0].function.name == "get_weather"
    assert "".join(piece.function.arguments or "" for piece in pieces) == call.function.arguments


def test_json_schema(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    answer = ask(client, response_format=form)
    assert isinstance(json.loads(answer.choices[0].message.content)["sum"], int)


def test_leaving_a_stream_frees_its_slot(client: openai.OpenAI, port: int) -> None:
    for _ in range(5):
        with ask(client, stream=True, max_tokens=-1, extra_body={"ignore_eos": True}) as stream:
            next(iter(stream))
    assert ask(client, max_tokens=1).choices[0].finish_reason == "length"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"role": "nobody", "content": "x"}]}, "role"),
        ({"temperature": "hot"}, "temperature"),
        ({"max_tokens": 10**30}, "max_tokens"),
        ({"n": 0}, "'n'"),
        ({"n": -1}, "'n'"),
        ({"n": 3}, "'n'"),
        ({"n": 1.5}, "'n'"),
        ({"n": 10**30}, "'n'"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "nothing"}}}}, ""),
        ({"tools": [{"type": "function"}]}, "tools"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_bad_fields_are_named(
    client: openai.OpenAI, fields: dict[str, Any], named: str, stream: bool
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, stream=stream, **fields)
    error = caught.value.body
    assert isinstance(error, dict)
    assert error["type"] == "invalid_request_error"
    assert named in error["message"] or named in str(error.get("param"))


def test_prompt_beyond_the_context(client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": "1 2 3 4 5 6 7 8 9 " * 2000}]
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, messages=messages)
    error = caught.value.body
    assert isinstance(error, dict)
    assert error["type"] == "exceed_context_size_error"
    assert error["n_prompt_tokens"] > error["n_ctx"] > 0


def test_wrong_key(port: int) -> None:
    wrong = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="wrong", max_retries=0)
    with wrong, pytest.raises(openai.AuthenticationError):
        wrong.models.list()


def test_models_and_metrics(client: openai.OpenAI, port: int) -> None:
    (model,) = client.models.list().data
    assert model.id == "pyllama-demo"
    ask(client, max_tokens=4)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/metrics", headers={"authorization": "Bearer secret"})
    page = connection.getresponse().read().decode()
    connection.close()
    values = dict(line.split() for line in page.splitlines() if not line.startswith("#"))
    assert float(values["llamacpp:tokens_predicted_total"]) >= 4
    assert float(values["llamacpp:n_decode_total"]) > 0
