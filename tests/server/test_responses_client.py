"""The unmodified OpenAI client's Responses API against a server process with the demo model."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import openai
import pydantic
import pytest
from full_queue import is_tried_again
from real_server import WEATHER_SCHEMA, running_server

QUESTION = "What is 17 + 25?"
WEATHER = {"type": "function", "name": "get_weather", "parameters": WEATHER_SCHEMA}
ASK_WEATHER = "What is the weather in Paris?"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    flags = (
        "--parallel",
        "2",
        "--ctx-size",
        "2048",
        "--api-key",
        "secret,other",
        "--metrics",
        "--max-queue",
        "1",
    )
    with running_server(*flags) as port:
        yield port


@pytest.fixture
def client(port: int) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="secret", max_retries=0) as client:
        yield client


def ask(client: openai.OpenAI, **fields: Any) -> Any:
    return client.responses.create(**asked(**fields))


def asked(**fields: Any) -> Any:
    return {"model": "any", "input": QUESTION, "max_output_tokens": 400, "temperature": 0, **fields}


def shown(items: Any) -> list[dict[str, Any]]:
    """Return items without their random ids, and without what the client parses of them."""
    return [without_parsed({**item.model_dump(), "id": "", "call_id": ""}) for item in items]


def without_parsed(item: dict[str, Any]) -> dict[str, Any]:
    for part in item.get("content") or ():
        part.pop("parsed", None)
    item.pop("parsed_arguments", None)
    return item


def test_a_response_reasons_and_answers(client: openai.OpenAI) -> None:
    response = ask(client, metadata={"a": "b"}, instructions="Be brief.")
    reasoning, message = response.output
    assert (response.object, response.status, response.error) == ("response", "completed", None)
    assert response.id.startswith("resp_")
    assert reasoning.type == "reasoning"
    assert reasoning.content[0].text
    assert message.role == "assistant"
    assert "42" in response.output_text
    assert response.metadata == {"a": "b"}
    assert response.instructions == "Be brief."
    assert response.store is False
    usage = response.usage
    assert usage.output_tokens > usage.output_tokens_details.reasoning_tokens > 0
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens


def test_a_stream_adds_up_to_the_whole_response(client: openai.OpenAI) -> None:
    whole = ask(client)
    with client.responses.stream(**asked()) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert shown(final.output) == shown(whole.output)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == whole.output_text
    assert sum(event.type == "response.reasoning_text.delta" for event in events) > 1
    assert len({event.response.id for event in events if hasattr(event, "response")}) == 1


def test_a_cut_response_is_incomplete(client: openai.OpenAI) -> None:
    response = ask(client, max_output_tokens=3)
    assert response.status == "incomplete"
    assert response.incomplete_details.reason == "max_output_tokens"
    last = list(ask(client, max_output_tokens=3, stream=True))[-1]
    assert last.type == "response.incomplete"
    assert last.response.usage.output_tokens == 3


def test_a_function_is_called_and_its_result_goes_back(client: openai.OpenAI) -> None:
    fields = {"input": ASK_WEATHER, "tools": [WEATHER], "tool_choice": "required"}
    response = ask(client, **fields)
    call = response.output[-1]
    assert (call.type, call.name, call.status) == ("function_call", "get_weather", "completed")
    assert isinstance(json.loads(call.arguments)["city"], str)
    assert (call.id[:3], call.call_id[:5]) == ("fc_", "call_")
    with client.responses.stream(**asked(**fields)) as stream:
        assert shown(stream.get_final_response().output) == shown(response.output)

    said = [{"role": "user", "content": ASK_WEATHER}, *response.output]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "12 degrees"}
    answer = ask(client, input=[*said, result], tools=[WEATHER])
    assert answer.output


class Sum(pydantic.BaseModel):
    sum: int


def test_structured_output(client: openai.OpenAI) -> None:
    parsed = client.responses.parse(**asked(), text_format=Sum)
    assert isinstance(parsed.output_parsed, Sum)
    with client.responses.stream(**asked(), text_format=Sum) as stream:
        assert stream.get_final_response().output_parsed == parsed.output_parsed


def test_effort(client: openai.OpenAI) -> None:
    assert [item.type for item in ask(client, reasoning={"effort": "none"}).output] == ["message"]
    assert [item.type for item in ask(client, reasoning={"effort": "low"}).output] == ["reasoning", "message"]


def test_logprobs(client: openai.OpenAI) -> None:
    fields = {"include": ["message.output_text.logprobs"], "top_logprobs": 2, "reasoning": {"effort": "none"}}
    response = ask(client, **fields)
    entries = response.output[0].content[0].logprobs
    assert "".join(entry.token for entry in entries).startswith(response.output_text)
    assert all(len(entry.top_logprobs) == 2 for entry in entries)
    deltas = [
        event for event in ask(client, stream=True, **fields) if event.type == "response.output_text.delta"
    ]
    assert [entry.token for event in deltas for entry in event.logprobs] == [entry.token for entry in entries]


def test_tokens_are_counted(client: openai.OpenAI) -> None:
    counted = client.responses.input_tokens.count(model="any", input=QUESTION)
    assert counted.input_tokens == ask(client, max_output_tokens=1).usage.input_tokens


def test_a_stream_is_steered_by_the_id_of_its_response(client: openai.OpenAI, port: int) -> None:
    extra = {"ignore_eos": True, "reasoning_control": True}
    with ask(client, max_output_tokens=-1, stream=True, extra_body=extra) as stream:
        events = iter(stream)
        created = next(events)
        assert control(port, created.response.id)["success"] is True
        rest = list(events)
    assert rest[-1].type == "response.completed"
    assert "response.control" in [event.type for event in rest]
    assert control(port, created.response.id)["success"] is False


def control(port: int, completion_id: str) -> Any:
    body = json.dumps({"id": completion_id, "action": "stop"}).encode()
    url = f"http://127.0.0.1:{port}/v1/chat/completions/control"
    with urllib.request.urlopen(
        urllib.request.Request(url, body, {"x-api-key": "secret"}), timeout=60
    ) as answer:
        return json.load(answer)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"input": []}, "input"),
        ({"input": [{"role": "nobody", "content": "x"}]}, "input[0].role"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]},
            "input[0].content[0]",
        ),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
        (
            {"tools": [{"type": "function", "name": "f", "parameters": {"type": "nothing"}}]},
            "tools[0].parameters",
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_bad_fields_are_named(
    client: openai.OpenAI, fields: dict[str, Any], named: str, stream: bool
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, stream=stream, **fields)
    assert caught.value.param == named


def test_errors_have_their_classes(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="exceeds the available context size"):
        ask(client, input="1 2 3 4 5 6 7 8 9 " * 2000)
    with pytest.raises(openai.AuthenticationError):
        ask(client.with_options(api_key="wrong"))
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_unknown")


def until_ended(client: openai.OpenAI, response: Any) -> Any:
    while response.status in ("queued", "in_progress"):
        response = client.responses.retrieve(response.id)
    return response


def test_a_response_in_the_background_is_asked_for(client: openai.OpenAI) -> None:
    whole = ask(client)
    response = ask(client, background=True, metadata={"a": "b"})
    assert (response.status, response.background, response.metadata) == ("queued", True, {"a": "b"})
    ended = until_ended(client, response)
    assert (ended.id, ended.status, ended.background) == (response.id, "completed", True)
    assert shown(ended.output) == shown(whole.output)
    assert ended.metadata == {"a": "b"}
    assert client.responses.cancel(response.id).status == "completed"
    with pytest.raises(openai.NotFoundError):
        client.with_options(api_key="other").responses.retrieve(response.id)
    client.responses.delete(response.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)


def test_a_response_in_the_background_is_streamed_from_any_event_on(client: openai.OpenAI) -> None:
    with ask(client, background=True, stream=True) as stream:
        first = [next(stream) for _ in range(5)]
    response = first[0].response
    rest = list(client.responses.retrieve(response.id, stream=True, starting_after=4))
    every = list(client.responses.retrieve(response.id, stream=True))
    assert [event.to_dict() for event in every] == [event.to_dict() for event in (*first, *rest)]
    assert [event.sequence_number for event in every] == list(range(len(every)))
    assert every[-1].type == "response.completed"
    assert list(client.responses.retrieve(response.id, stream=True, starting_after=len(every) - 1)) == []
    for wrong in (len(every), -1):
        with pytest.raises(openai.BadRequestError):
            client.responses.retrieve(response.id, stream=True, starting_after=wrong)


def test_a_response_in_the_background_is_cancelled(client: openai.OpenAI) -> None:
    endless = {"max_output_tokens": -1, "background": True, "extra_body": {"ignore_eos": True}}
    running = [ask(client, **endless) for _ in range(2)]
    queued = ask(client, **endless)
    for response in (queued, *running):
        cancelled = client.responses.cancel(response.id)
        assert (cancelled.id, cancelled.status) == (response.id, "cancelled")
        assert client.responses.retrieve(response.id).status == "cancelled"
    assert ask(client, max_output_tokens=1).status == "incomplete"


def test_what_a_stream_of_a_cut_background_response_ends_with(client: openai.OpenAI) -> None:
    response = until_ended(client, ask(client, background=True, max_output_tokens=3))
    assert response.status == "incomplete"
    assert response.incomplete_details.reason == "max_output_tokens"


def test_others_are_not_kept(client: openai.OpenAI) -> None:
    response = ask(client, max_output_tokens=1)
    with pytest.raises(openai.NotFoundError, match="background"):
        client.responses.retrieve(response.id)


def test_a_full_queue_is_tried_again(client: openai.OpenAI) -> None:
    answers = is_tried_again(
        client.base_url.port or 0,
        client,
        openai.RateLimitError,
        lambda: ask(client, max_output_tokens=-1, stream=True, extra_body={"ignore_eos": True}),
        lambda asking: ask(asking, max_output_tokens=1),
    )
    assert [answer.status for answer in answers] == ["incomplete"] * 2
