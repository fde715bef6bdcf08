"""Bodies, schemas, grammars and templates that cannot be used: a clear error, and the server goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from live_server import CHAT, QUESTION, LiveServer, check_error, http_post, read_response

MESSAGES = json.dumps(QUESTION)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b'{"messages":',
        b"[]",
        b'"text"',
        b"null",
        b"1",
        b"{}{}",
        b'{"messages":[}',
        b"{'messages':[]}",
        b'{"messages":[],}',
        b'\xef\xbb\xbf{"messages":[]}',
        b"messages=1",
        b"\0",
        b'{"messages":[{"role":"user","content":"a\nb"}]}',
        b'{"messages":[{"role":"user","content":"\\ud800"}]}',
        b'{"messages":[{"role":"user","content":"\\x41"}]}',
        b'{"messages":[{"role":"user","content":"\xff\xfe"}]}',
        b'{"messages":[{"role":"user","content":"\xed\xa0\x80"}]}',
        b'{"messages":[{"role":"user","content":"\xc0\xaf"}]}',
        b'{"messages":[{"role":"user","content":"\xe4\xb8"}]}',
    ],
)
def test_body_that_is_no_request(running: LiveServer, body: bytes) -> None:
    status, answer = running.post(body)
    check_error(status, answer)
    assert answer["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("number", "NaN Infinity -Infinity 1e999 -1e999 01 1. +1 0x10".split())
def test_number_that_is_none(running: LiveServer, number: str) -> None:
    status, answer = running.post(f'{{"messages":{MESSAGES},"temperature":{number}}}'.encode())
    check_error(status, answer)


def test_deep_nesting(running: LiveServer) -> None:
    for depth in (1_000, 1_000_000):
        for opening in ("[", '{"a":'):
            for field in ("messages", "tools", "chat_template_kwargs", "unknown"):
                status, answer = running.post(f'{{"{field}":{opening * depth}'.encode())
                check_error(status, answer)
    arguments = "[" * 100_000
    call = {"type": "function", "function": {"name": "f", "arguments": arguments}}
    status, answer = running.chat(messages=[*QUESTION, {"role": "assistant", "tool_calls": [call]}])
    check_error(status, answer, param="messages[1].tool_calls[0].function.arguments")


def test_many_members_and_long_names(running: LiveServer) -> None:
    status, answer = running.chat(**{f"unknown{i}": i for i in range(4_000)})
    assert status == 200, answer
    status, answer = running.chat(**{f"unknown{i}": i for i in range(500_000)})
    assert "4096 members" in check_error(status, answer)
    status, answer = running.chat(**{"x" * 1_000_000: 1})
    assert status == 200, answer
    status, answer = running.chat(chat_template_kwargs={f"k{i}": i for i in range(1_000)})
    assert status == 200, answer


def test_long_text_without_a_break(running: LiveServer) -> None:
    for text in ("a" * 2_000_000, "\u4e2d" * 500_000, " " * 2_000_000, "\n" * 2_000_000):
        status, answer = running.chat(messages=[{"role": "user", "content": text}])
        check_error(status, answer)


def test_body_beyond_the_limit(running: LiveServer) -> None:
    big = b"x" * 50_000_000
    status, answer = running.post(big)
    message = check_error(status, answer, code=413)
    assert "--max-body-bytes" in message
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    client = running.connect(head + b"%x\r\n" % len(big) + big + b"\r\n0\r\n\r\n")
    status, body = read_response(client)
    check_error(status, json.loads(body), code=413)


def test_body_in_tiny_chunks(running: LiveServer) -> None:
    body = json.dumps({"messages": QUESTION, "max_tokens": 2}).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    status, answer = read_response(running.connect(head + chunks + b"0\r\n\r\n"))
    assert status == 200, answer


BAD_SCHEMAS: list[Any] = [
    {"type": "no such type"},
    {"type": 1},
    {"$ref": "#/definitions/missing"},
    {"$ref": "https://example.com/schema.json"},
    {"$ref": 1},
    {"type": "string", "pattern": "a(b"},
    {"type": "string", "pattern": "no anchors"},
    {"type": "string", "pattern": "^" + "(" * 5000 + "$"},
    {"type": "object", "properties": {f"p{i}": {} for i in range(1000)}},
    {"type": "string", "minLength": 10**9},
    {"type": "array", "items": {}, "minItems": 10**9},
    {"type": "integer", "minimum": 10, "maximum": 1},
    {"enum": []},
    {"allOf": [1]},
    {"anyOf": 1},
    {"properties": 1, "type": "object"},
    {"const": {"a": "b" * 300_000}},
]


@pytest.mark.parametrize("schema", BAD_SCHEMAS, ids=lambda schema: json.dumps(schema)[:40])
def test_schema_that_may_not_compile(running: LiveServer, schema: Any) -> None:
    """llama.cpp compiles some of these; whatever it says, the answer has one of two forms."""
    tool = {
        "type": "function",
        "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": schema}}},
    }
    forms: list[tuple[str, dict[str, Any]]] = [
        ("json_schema", {"json_schema": schema}),
        ("response_format", {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}),
        ("response_format", {"response_format": {"type": "json_object", "schema": schema}}),
        ("tools", {"tools": [tool], "tool_choice": "required"}),
    ]
    for field, body in forms:
        status, answer = running.chat(**body)
        if status != 200:
            check_error(status, answer)
            error = answer["error"]
            too_long = error["type"] == "exceed_context_size_error"  # the template prints a tool's schema
            assert too_long or error.get("param", "").startswith(field), answer


@pytest.mark.parametrize("field", ["json_schema", "response_format"])
def test_schema_that_does_not_compile(running: LiveServer, field: str) -> None:
    schema = {"$ref": "#/definitions/missing"}
    wrapped = {"type": "json_schema", "json_schema": {"schema": schema}}
    status, answer = running.chat(**{field: schema if field == "json_schema" else wrapped})
    check_error(status, answer)
    assert answer["error"]["param"].startswith(field)


@pytest.mark.parametrize(
    "grammar",
    [
        "root",
        "root ::= nowhere",
        'roots ::= "a"',
        'root ::= "a',
        "root ::= [a",
        "root ::= (((",
        "root ::= root",
        'root ::= root "a"',
        "root ::= a\na ::= b\nb ::= a",
        'root ::= "a"{1000000}',
        'root ::= "a"{3,1}',
        "root ::= " + "(" * 10_000 + '"a"' + ")" * 10_000,
        'root ::= "' + "a" * 2_000_000 + '"',
        "\n".join(f"r{i} ::= r{i + 1}" for i in range(20_000)),
        'root ::= "a"\0',
        "%llguidance {}",
        'root ::= "\\xZZ"',
        'root ::= "\\',
        "::=",
        "\u00e9 ::= 1",
    ],
    ids=lambda grammar: grammar[:20],
)
def test_grammar_that_cannot_be_used(running: LiveServer, grammar: str) -> None:
    status, answer = running.chat(grammar=grammar)
    check_error(status, answer, param="grammar")


def test_grammar_that_no_token_may_follow(running: LiveServer) -> None:
    """Everything that the grammar allows is forbidden: the request ends, and nothing else does."""
    n_vocab = running.get("/v1/models")["data"][0]["meta"]["n_vocab"]
    forbidden = [[token, False] for token in range(n_vocab)]
    bodies: list[dict[str, Any]] = [
        {"grammar": 'root ::= "yes"'},
        {"response_format": {"type": "json_object"}},
        {},
    ]
    for body in bodies:
        for temperature in (0, 1.0):
            status, answer = running.chat(logit_bias=forbidden, temperature=temperature, **body)
            if status == 200:
                assert answer["choices"][0]["finish_reason"] in ("stop", "length")
            else:
                assert status in (400, 500), answer
                assert set(answer) == {"error"}


def test_empty_grammar_language(running: LiveServer) -> None:
    status, answer = running.chat(grammar='root ::= ""', max_tokens=8)
    assert status == 200, answer
    assert not answer["choices"][0]["message"]["content"]


def test_logit_bias_beyond_the_vocabulary(running: LiveServer) -> None:
    for token in (-1, 10**6, 2**31, 2**63):
        status, answer = running.chat(logit_bias=[[token, 1]])
        check_error(status, answer, param="logit_bias")
    for bias in (1e30, -1e30):
        status, answer = running.chat(logit_bias={"1": bias})
        check_error(status, answer, param="logit_bias")


@pytest.mark.parametrize(
    "template",
    ["{{ raise_exception('never\\nthis way') }}", "{{ messages[99].content.missing }}", "{{ 1 / 0 }}"],
)
def test_template_that_raises(tmp_path: Path, template: str) -> None:
    path = tmp_path / "template.jinja"
    # llama.cpp tries a template on examples when it loads: fail on what only a client says.
    path.write_text(
        "{% if messages[0].content == 'What is 17 + 25?' %}" + template + "{% else %}a{% endif %}"
    )
    with LiveServer("--chat-template-file", str(path), ordinary="hello") as server:
        status, answer = server.chat()
        if status != 200:  # llama.cpp's Jinja gives nothing for a missing member
            check_error(status, answer, param="messages")
            assert "template" in answer["error"]["message"]
        server.check_settled()


@pytest.mark.parametrize("wanted", [{"json_schema": {}}, {"response_format": {"type": "json_object"}}])
def test_an_answer_that_began_against_its_grammar(wanted: dict[str, Any], server: LiveServer) -> None:
    begun = [*QUESTION, {"role": "assistant", "content": "no JSON \u00b2"}]
    status, answer = server.chat(messages=begun, **wanted)
    check_error(status, answer, param="grammar")
    begun[-1]["content"] = '{"sum": '
    status, answer = server.chat(messages=begun, max_tokens=40, temperature=0, **wanted)
    assert status == 200, answer


def test_everything_is_settled_after_all_this(server: LiveServer) -> None:
    assert server.n_busy() == 0


def test_memory_comes_back(server: LiveServer) -> None:
    """Large refused bodies: what they took goes back to the system, in every round."""

    def abuse() -> int:
        for _ in range(3):
            server.post(b"[" * 30_000_000)
            server.post(json.dumps({"messages": [{"role": "user", "content": "a " * 10_000_000}]}).encode())
        server.connect(http_post(b"x")).close()
        return server.resident_bytes()

    before = server.resident_bytes()
    assert max(abuse() - before for _ in range(3)) < 32_000_000
