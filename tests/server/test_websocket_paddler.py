"""Paddler's protocol over the fake core: its requests as ours, our answers as its."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from asgi import Client, Socket, serving

from pyllama.errors import (
    ContextLengthError,
    EngineBusyError,
    EngineError,
    EngineUnavailableError,
    InvalidRequestError,
)

pytestmark = pytest.mark.anyio

PATH = "/api/v1/inference_socket"
USAGE = {"prompt_tokens": 3, "content_tokens": 2}


def line(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def token(text: str, kind: str = "ContentToken") -> bytes:
    return line({"GeneratedToken": {kind: text}})


IMAGE = "'messages[0].content[0]' is of type 'image_url', and this model reads text only"
DONE = line({"GeneratedToken": {"Done": {"finish": "MaxTokens", "usage": USAGE}}})


def request(kind: str = "ContinueFromConversationHistory", **params: Any) -> dict[str, Any]:
    needed: dict[str, Any] = {"conversation_history": []}
    if kind == "ContinueFromRawPrompt":
        needed = {"raw_prompt": "Once"}
    return {"Request": {"id": "r1", "request": {kind: {**needed, **params}}}}


def response(value: Any, request_id: str = "r1", **more: Any) -> dict[str, Any]:
    return {"Response": {"generated_by": None, "request_id": request_id, **more, "response": value}}


def error(code: int, description: str, request_id: str = "r1") -> dict[str, Any]:
    return {"Error": {"request_id": request_id, "error": {"code": code, "description": description}}}


async def begin(client: Client, socket: Socket, message: Any = None) -> Any:
    n = len(client.engine.streams)
    socket.say(message or request())
    stream = (await client.streams(n + 1))[n]
    stream.start()
    return stream


@pytest.mark.parametrize(
    ("query", "done"),
    [
        (b"", {"Done": {"usage": USAGE}}),
        (b"done=object", {"Done": {"usage": USAGE}}),
        (b"done=string", "Done"),
        (b"done=finish", {"Done": {"finish": "MaxTokens", "usage": USAGE}}),
    ],
)
async def test_an_answer(query: bytes, done: Any) -> None:
    async with serving() as client:
        socket = await client.socket(PATH, query=query)
        stream = await begin(client, socket)
        stream.append(token("hm", "ReasoningToken"))
        stream.append(token('{"GeneratedToken":{"Done":'))
        stream.append(DONE)
        stream.finish()
        assert await socket.next(3) == [
            response({"GeneratedToken": {"ReasoningToken": "hm"}}),
            response({"GeneratedToken": {"ContentToken": '{"GeneratedToken":{"Done":'}}),
            response({"GeneratedToken": done}),
        ]


async def test_conversations_are_requests_of_ours() -> None:
    async with serving() as client:
        socket = await client.socket(PATH)
        history = [{"role": "user", "content": "hi"}]
        tools = [{"type": "function", "function": {"name": "f"}}]
        stream = await begin(
            client,
            socket,
            request(
                conversation_history=history,
                add_generation_prompt=True,
                enable_thinking=False,
                max_tokens=64,
                grammar=None,
                tools=tools,
                parse_tool_calls=True,
                temperature=0.5,
            ),
        )
        assert stream.body == {
            "messages": history,
            "add_generation_prompt": True,
            "chat_template_kwargs": {"enable_thinking": False},
            "max_tokens": 64,
            "tools": tools,
            "parse_tool_calls": True,
            "temperature": 0.5,
        }


async def test_raw_prompts_are_requests_of_ours() -> None:
    async with serving() as client:
        socket = await client.socket(PATH)
        message = request("ContinueFromRawPrompt", raw_prompt='On\u00fc "x"', max_tokens=16, seed=7)
        stream = await begin(client, socket, message)
        assert stream.body == {"prompt": 'On\u00fc "x"', "max_tokens": 16, "seed": 7}


@pytest.mark.parametrize(
    ("grammar", "expected"),
    [
        ({"type": "gbnf", "grammar": 'root ::= "a"', "root": "root"}, {"grammar": 'root ::= "a"'}),
        ({"type": "gbnf", "grammar": 'root ::= "a"'}, {"grammar": 'root ::= "a"'}),
        (
            {"type": "gbnf", "grammar": 'x ::= "a"', "root": "x"},
            {"grammar": 'x ::= "a"\nroot ::= x\n'},
        ),
        ({"type": "json_schema", "schema": '{"type": "object"}'}, {"json_schema": {"type": "object"}}),
    ],
)
async def test_grammars(grammar: Any, expected: dict[str, Any]) -> None:
    async with serving() as client:
        socket = await client.socket(PATH)
        stream = await begin(client, socket, request("ContinueFromRawPrompt", grammar=grammar))
        assert stream.body == {"prompt": "Once", **expected}


@pytest.mark.parametrize(
    "grammar",
    [
        {"type": "gbnf"},
        {"type": "lark", "grammar": "x"},
        {"type": "gbnf", "grammar": 'x ::= "a"', "root": "x y"},
        {"type": "gbnf", "grammar": 'root ::= "a"\nx ::= "b"', "root": "x"},
        {"type": "json_schema", "schema": "{"},
        {"type": "json_schema", "schema": "[" * 200_000},
        {"type": "json_schema"},
    ],
)
async def test_grammars_that_are_none(grammar: Any) -> None:
    async with serving() as client:
        socket = await client.socket(PATH)
        socket.say(request(grammar=grammar))
        answer = await socket.next()
        assert list(answer["Response"]["response"]["GeneratedToken"]) == ["GrammarSyntaxError"]


@pytest.mark.parametrize(
    ("exc", "answer"),
    [
        (EngineBusyError("full"), response("TooManyBufferedRequests")),
        (EngineUnavailableError("shutting down"), error(503, "shutting down")),
        (EngineError("decode failed"), error(500, "decode failed")),
        (ContextLengthError("too long", n_prompt_tokens=9, n_ctx=8), error(400, "too long")),
        (
            InvalidRequestError("the grammar does not compile", param="grammar"),
            response({"GeneratedToken": {"GrammarSyntaxError": "the grammar does not compile"}}),
        ),
        (
            InvalidRequestError("the chat template cannot render these", param="messages"),
            response({"GeneratedToken": {"ChatTemplateError": "the chat template cannot render these"}}),
        ),
        (
            InvalidRequestError(IMAGE, param="messages[0].content[0]"),
            response({"GeneratedToken": {"MultimodalNotSupported": IMAGE}}),
        ),
        (
            InvalidRequestError("'messages' must not be empty", param="messages"),
            error(400, "'messages' must not be empty"),
        ),
    ],
)
async def test_refusals(exc: Exception, answer: Any) -> None:
    async with serving() as client:
        socket = await client.socket(PATH)
        client.engine.refuse = exc
        socket.say(request())
        assert await socket.next() == answer


async def test_failures_in_the_stream_and_waits_for_a_slot() -> None:
    async with serving(queue_timeout=0.02) as client:
        socket = await client.socket(PATH)
        stream = await begin(client, socket)
        stream.append(token("a"))
        stream.append(line({"Error": {"code": 503, "description": "ending"}}))
        stream.finish(EngineUnavailableError("ending"))
        assert (await socket.next(2))[1] == error(503, "ending")
        socket.say(request())
        queued = (await client.streams(2))[1]
        await asyncio.to_thread(queued.cancelled.wait)
        queued.append(DONE)
        queued.finish()
        assert await socket.next() == response("Timeout")


@pytest.mark.parametrize(
    ("message", "code", "request_id"),
    [
        ("{", 400, ""),
        ("[]", 400, ""),
        ({}, 400, ""),
        ({"Request": 1}, 400, ""),
        ({"Request": {"request": {}}}, 400, ""),
        ({"Request": {"id": 1, "request": {}}}, 400, ""),
        ({"Request": {"id": "r1"}}, 400, "r1"),
        ({"Request": {"id": "r1", "request": {}}}, 400, "r1"),
        ({"Request": {"id": "r1", "request": {"a": {}, "b": {}}}}, 400, "r1"),
        ({"Request": {"id": "r1", "request": {"GenerateEmbeddingBatch": {}}}}, 501, "r1"),
        ({"Request": {"id": "r1", "request": {"ContinueFromConversationHistory": {}}}}, 400, "r1"),
        ({"Request": {"id": "r1", "request": {"ContinueFromConversationHistory": []}}}, 400, "r1"),
        ({"Request": {"id": "r1", "request": {"ContinueFromRawPrompt": {"raw_prompt": ["a"]}}}}, 400, "r1"),
        (request(enable_thinking="yes"), 400, "r1"),
        ({"Notification": {}}, 400, ""),
        ({"Notification": {"StopRespondingTo": 1}}, 400, ""),
        ({"Notification": {"Control": {"action": "stop"}}}, 400, ""),
        ({"Notification": {"Resume": {"after": 1}}}, 400, ""),
        ({"Notification": {"Resume": {"conversation_id": "none"}}}, 404, "none"),
    ],
)
async def test_bad_messages_leave_the_socket_alone(message: Any, code: int, request_id: str) -> None:
    async with serving() as client:
        socket = await client.socket(PATH)
        other = request()
        other["Request"]["id"] = "other"
        stream = await begin(client, socket, other)
        socket.say(message)
        answer = (await socket.next())["Error"]
        assert (answer["error"]["code"], answer["request_id"]) == (code, request_id)
        assert answer["error"]["description"]
        stream.append(token("a"))
        assert await socket.next() == response({"GeneratedToken": {"ContentToken": "a"}}, "other")


async def test_an_id_in_use_and_stopping() -> None:
    async with serving() as client:
        socket = await client.socket(PATH)
        stream = await begin(client, socket)
        socket.say(request())
        assert (await socket.next())["Error"]["request_id"] == ""
        socket.say({"Request": {"id": "r1"}})
        assert (await socket.next())["Error"]["request_id"] == ""
        socket.say({"Notification": {"StopRespondingTo": "nobody"}})  # says nothing
        socket.say({"Error": {"request_id": "r1", "error": {}}})  # neither
        socket.say({"Notification": {"StopRespondingTo": "r1"}})
        await asyncio.to_thread(stream.cancelled.wait)
        stream.append(DONE)
        stream.finish()
        assert await socket.next() == response({"GeneratedToken": {"Done": {"usage": USAGE}}})


async def test_conversations_number_their_events_and_can_be_resumed() -> None:
    async with serving() as client:
        socket = await client.socket(PATH)
        message = request()
        message["Request"]["conversation_id"] = "c1"
        stream = await begin(client, socket, message)
        stream.append(token("a"))
        stream.append(token("b"))
        expected = [
            response({"GeneratedToken": {"ContentToken": text}}, event_id=number)
            for number, text in enumerate("ab")
        ]
        assert await socket.next(2) == expected
        socket.leave()
        await socket.end()
        assert not stream.cancelled.is_set()
        back = await client.socket(PATH)
        back.say({"Notification": {"Resume": {"conversation_id": "c1", "after": 0}}})
        assert await back.next() == expected[1]
        stream.append(DONE)
        stream.finish()
        assert (await back.next())["Response"]["event_id"] == 2
        back.say({"Notification": {"Resume": {"conversation_id": "c1", "after": 2}}})
        end = (await back.next())["Response"]["response"]["GeneratedToken"]["Done"]["usage"]
        assert set(end.values()) == {0}
        # Another protocol's socket cannot read it, nor this one another's.
        other = await client.socket()
        other.say({"type": "resume", "conversation_id": "c1", "request_id": "x"})
        assert (await other.next())["error"]["param"] == "conversation_id"


async def test_controls_of_nobody() -> None:
    async with serving() as client:
        socket = await client.socket(PATH)
        socket.say({"Notification": {"Control": {"request_id": "r1", "action": "stop"}}})
        answer = {"success": False, "message": "no active completion for this id"}
        assert await socket.next() == response({"ControlResult": answer})
        socket.say({"Notification": {"Control": {"request_id": "r1", "action": "dance"}}})
        answer = (await socket.next())["Response"]["response"]["ControlResult"]["error"]
        assert answer["message"] == "unknown control action"
