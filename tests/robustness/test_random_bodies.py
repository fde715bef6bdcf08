"""Random chat requests, half right and half wrong: every one is answered in form, and the server stays up."""

from __future__ import annotations

import json
import os
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from live_server import LiveServer, check_error
from test_fields import HUGE, WRONG_TYPES

SEED = int(os.environ.get("PYLLAMA_FUZZ_SEED", "20"))
texts = st.text(max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)
roles = st.sampled_from(["system", "user", "assistant", "tool", "developer", "function", "wizard", ""])
contents = texts | st.lists(
    st.fixed_dictionaries({"type": st.sampled_from(["text", "x"]), "text": texts}), max_size=3
)
messages = st.fixed_dictionaries(
    {},
    optional={
        "role": roles,
        "content": contents | json_values,
        "reasoning_content": texts,
        "tool_call_id": texts,
        "name": texts,
        "tool_calls": json_values,
    },
)
FIELDS = sorted({*WRONG_TYPES, *HUGE} - {"messages"})
# Right often enough that generation is reached too.
values = (
    json_values | st.integers(0, 3) | st.floats(0, 1) | st.booleans() | st.sampled_from(["auto", "none", "a"])
)
bodies = st.builds(
    lambda talk, fields: {"max_tokens": 2, **fields, "messages": talk},
    st.lists(messages, max_size=4)
    | st.lists(st.fixed_dictionaries({"role": st.just("user"), "content": texts}), min_size=1, max_size=3),
    st.dictionaries(st.sampled_from(FIELDS), values, max_size=3),
)


@seed(SEED)
@settings(
    max_examples=300,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(body=bodies)
def test_random_bodies(running: LiveServer, body: dict[str, Any]) -> None:
    if body["max_tokens"] != 2:
        body = {**body, "ignore_eos": False}
    status, raw = running.request("POST", "/v1/chat/completions", json.dumps(body).encode())
    if status != 200:
        check_error(status, json.loads(raw))
    elif body.get("stream"):
        assert raw.endswith(b"data: [DONE]\n\n")
    else:
        assert json.loads(raw)["object"] == "chat.completion"


@seed(SEED)
@settings(
    max_examples=200,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(body=st.binary(max_size=300) | json_values.map(lambda value: json.dumps(value).encode()))
def test_random_bytes(running: LiveServer, body: bytes) -> None:
    status, answer = running.post(body)
    check_error(status, answer)


def test_everything_is_settled_after_all_this(server: LiveServer) -> None:
    assert server.n_busy() == 0
