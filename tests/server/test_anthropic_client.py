"""The unmodified Anthropic client against a server process with the demo model."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import anthropic
import pydantic
import pytest
from full_queue import is_tried_again
from real_server import WEATHER_SCHEMA, running_server

QUESTION = [{"role": "user", "content": "What is 17 + 25?"}]
WEATHER = {"name": "get_weather", "description": "Get the weather of a city", "input_schema": WEATHER_SCHEMA}
KINDS = ("thinking", "text")
ASK_WEATHER = [{"role": "user", "content": "What is the weather in Paris?"}]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    flags = ("--parallel", "2", "--ctx-size", "2048", "--api-key", "secret", "--metrics", "--max-queue", "1")
    with running_server(*flags) as port:
        yield port


@pytest.fixture
def client(port: int) -> Iterator[anthropic.Anthropic]:
    url = f"http://127.0.0.1:{port}"
    with anthropic.Anthropic(base_url=url, api_key="secret", max_retries=0) as client:
        yield client


def ask(client: anthropic.Anthropic, **fields: Any) -> Any:
    return client.messages.create(**asked(**fields))


def asked(**fields: Any) -> Any:
    fields = {"model": "any", "messages": QUESTION, "max_tokens": 400, **fields}
    return {**fields, "extra_body": {"temperature": 0, **fields.get("extra_body", {})}}


def post(port: int, path: str, **fields: Any) -> Any:
    headers = {"content-type": "application/json", "x-api-key": "secret"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(fields).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def test_a_message_thinks_and_answers(client: anthropic.Anthropic) -> None:
    message = ask(client)
    thinking, text = message.content
    assert (message.type, message.role, message.stop_reason) == ("message", "assistant", "end_turn")
    assert message.id.startswith("msg_")
    assert thinking.type == "thinking"
    assert thinking.thinking
    assert thinking.signature == ""
    assert text.type == "text"
    assert "42" in text.text
    assert message.usage.output_tokens > message.usage.output_tokens_details.thinking_tokens > 0


def test_a_stream_adds_up_to_the_whole_message(client: anthropic.Anthropic) -> None:
    whole = ask(client)
    with client.messages.stream(**asked()) as stream:
        events = list(stream)
        final = stream.get_final_message()
    assert [block.model_dump() for block in final.content] == [block.model_dump() for block in whole.content]
    assert final.stop_reason == whole.stop_reason
    assert final.usage.output_tokens == whole.usage.output_tokens
    assert final.usage.input_tokens + final.usage.cache_read_input_tokens == (
        whole.usage.input_tokens + whole.usage.cache_read_input_tokens
    )
    kinds = [event.type for event in events]
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") == 2
    # How many deltas there are is a matter of speed: what waits to be sent is sent as one.
    said = {kind: "".join(getattr(event, kind) for event in events if event.type == kind) for kind in KINDS}
    assert said == {"thinking": whole.content[0].thinking, "text": whole.content[1].text}


def test_what_the_cache_held_is_not_input(client: anthropic.Anthropic) -> None:
    ask(client, max_tokens=1)
    with client.messages.stream(**asked(max_tokens=1)) as stream:
        start = next(event for event in stream if event.type == "message_start")
        usage = stream.get_final_message().usage
    assert start.message.usage.cache_read_input_tokens == usage.cache_read_input_tokens > 0
    assert start.message.usage.input_tokens == usage.input_tokens
    counted = client.messages.count_tokens(model="any", messages=QUESTION).input_tokens
    assert usage.input_tokens + usage.cache_read_input_tokens == counted


def test_a_tool_is_called_and_its_result_goes_back(client: anthropic.Anthropic) -> None:
    fields = {"messages": ASK_WEATHER, "tools": [WEATHER], "tool_choice": {"type": "any"}}
    message = ask(client, **fields)
    assert message.stop_reason == "tool_use"
    call = message.content[-1]
    assert (call.type, call.name) == ("tool_use", "get_weather")
    assert isinstance(call.input["city"], str)
    with client.messages.stream(**asked(**fields)) as stream:
        streamed = stream.get_final_message().content[-1]
    assert (streamed.name, streamed.input) == (call.name, call.input)

    result = {
        "type": "tool_result",
        "tool_use_id": call.id,
        "content": [{"type": "text", "text": "12 degrees"}],
    }
    messages = [
        *ASK_WEATHER,
        {"role": "assistant", "content": message.content},
        {"role": "user", "content": [result]},
    ]
    answer = ask(client, messages=messages, tools=[WEATHER])
    assert answer.stop_reason in ("end_turn", "tool_use")
    assert answer.content


def test_one_tool_may_be_chosen_or_none(client: anthropic.Anthropic) -> None:
    other = {**WEATHER, "name": "other"}
    fields = {"messages": ASK_WEATHER, "tools": [other, WEATHER]}
    chosen = ask(client, tool_choice={"type": "tool", "name": "get_weather"}, **fields)
    assert chosen.content[-1].name == "get_weather"
    none = ask(client, tool_choice={"type": "none"}, **fields)
    assert none.stop_reason == "end_turn"


class Sum(pydantic.BaseModel):
    sum: int


def test_structured_output(client: anthropic.Anthropic) -> None:
    parsed = client.messages.parse(**asked(), output_format=Sum)
    assert isinstance(parsed.parsed_output, Sum)
    with client.messages.stream(**asked(), output_format=Sum) as stream:
        assert stream.get_final_message().parsed_output == parsed.parsed_output


def test_the_thinking_budget(client: anthropic.Anthropic) -> None:
    free = ask(client).usage.output_tokens_details.thinking_tokens
    thinking = {"type": "enabled", "budget_tokens": 5}
    held = ask(client, thinking=thinking)
    assert held.usage.output_tokens_details.thinking_tokens < free
    assert held.content[-1].type == "text"
    off = ask(client, thinking={"type": "disabled"})
    assert [block.type for block in off.content] == ["text"]


def test_reasons_to_stop(client: anthropic.Anthropic) -> None:
    cut = ask(client, max_tokens=3)
    assert (cut.stop_reason, cut.usage.output_tokens) == ("max_tokens", 3)
    word = ask(client).content[-1].text.split()[-1]
    stopped = ask(client, stop_sequences=["never", word])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", word)
    with client.messages.stream(**asked(stop_sequences=[word])) as stream:
        assert stream.get_final_message().stop_sequence == word


def test_a_system_prompt_is_text_or_blocks(client: anthropic.Anthropic) -> None:
    def count(**fields: Any) -> int:
        return int(client.messages.count_tokens(model="any", messages=QUESTION, **fields).input_tokens)

    blocks = [{"type": "text", "text": "Be "}, {"type": "text", "text": "kind."}]
    assert count(system="Be kind.") == count(system=blocks) > count()


def test_a_begun_answer_goes_on(client: anthropic.Anthropic) -> None:
    begun = [*QUESTION, {"role": "assistant", "content": "The sum of 17 and 25 is"}]
    message = ask(client, messages=begun)
    assert message.content[-1].text
    assert "The sum of 17" not in message.content[-1].text


def test_a_stream_is_steered_by_the_id_of_its_message(client: anthropic.Anthropic, port: int) -> None:
    endless = asked(max_tokens=-1, extra_body={"ignore_eos": True, "reasoning_control": True})
    with client.messages.create(**endless, stream=True) as stream:
        events = iter(stream)
        start = next(events)
        control = "/v1/chat/completions/control"
        assert post(port, control, id=start.message.id, action="stop")["success"] is True
        rest = list(events)
    assert rest[-1].type == "message_stop"
    assert rest[-2].delta.stop_reason == "end_turn"
    assert "control" in [event.type for event in rest]
    assert post(port, control, id=start.message.id, action="stop")["success"] is False


def test_a_stream_is_read_again(client: anthropic.Anthropic, port: int) -> None:
    headers = {"X-Conversation-Id": "messages/1"}
    with client.messages.create(**asked(), stream=True, extra_headers=headers) as stream:
        events = list(stream)
    url = f"http://127.0.0.1:{port}/v1/stream/messages/1"
    with urllib.request.urlopen(
        urllib.request.Request(url, headers={"x-api-key": "secret"}), timeout=60
    ) as again:
        frames = again.read().decode().split("\n\n")[:-1]
    assert [frame.split("\n")[0] for frame in frames] == [f"event: {event.type}" for event in events]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"messages": "x"}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "document"}]}]}, "messages[0].content[0].type"),
        ({"extra_body": {"temperature": "hot"}}, "temperature"),
        ({"tools": [{"name": "f", "input_schema": {"type": "nothing"}}]}, "tools[0].input_schema"),
        ({"tool_choice": {"type": "tool", "name": "g"}}, "tool_choice"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_bad_fields_are_named(
    client: anthropic.Anthropic, fields: dict[str, Any], named: str, stream: bool
) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        ask(client, stream=stream, **fields)
    assert caught.value.type == "invalid_request_error"
    body: Any = caught.value.body
    assert body["type"] == "error"
    assert body["error"]["param"] == named
    assert caught.value.api_message == body["error"]["message"]


def test_errors_have_their_classes(client: anthropic.Anthropic, port: int) -> None:
    long = [{"role": "user", "content": "1 2 3 4 5 6 7 8 9 " * 2000}]
    with pytest.raises(anthropic.BadRequestError, match="exceed_context_size_error"):
        ask(client, messages=long)
    image = {"type": "image", "source": {"type": "url", "url": "https://example.invalid/x.png"}}
    with pytest.raises(anthropic.InternalServerError, match="image input is not supported"):
        ask(client, messages=[{"role": "user", "content": [image]}])
    with pytest.raises(anthropic.NotFoundError):
        client.messages.batches.list()
    wrong = client.with_options(api_key="wrong")
    with pytest.raises(anthropic.AuthenticationError):
        ask(wrong)


def test_a_full_queue_is_tried_again(client: anthropic.Anthropic, port: int) -> None:
    endless = asked(max_tokens=-1, stream=True, extra_body={"ignore_eos": True})
    answers = is_tried_again(
        port,
        client,
        anthropic.RateLimitError,
        lambda: client.messages.create(**endless),
        lambda asking: ask(asking, max_tokens=1),
    )
    assert [answer.stop_reason for answer in answers] == ["max_tokens"] * 2
