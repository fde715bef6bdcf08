"""Every field of a chat request with every wrong value: 400 that names the field, and the server goes on."""

from __future__ import annotations

from typing import Any

import pytest
from live_server import LiveServer, check_error

# As in csrc/request_fields.cpp.
BOOLEANS = (
    "stream",
    "echo",
    "cache_prompt",
    "ignore_eos",
    "reasoning_control",
    "logprobs",
    "parallel_tool_calls",
)
BOOLEANS += ("add_generation_prompt",)
INTEGERS = (
    "max_tokens max_completion_tokens n_predict t_max_predict_ms id_slot top_k repeat_last_n "
    "dry_allowed_length dry_penalty_last_n mirostat min_keep "
    "thinking_budget_tokens reasoning_budget_tokens reasoning_budget_soft seed n n_probs"
).split()
NUMBERS = (
    "temperature dynatemp_range dynatemp_exponent top_p min_p typical_p top_n_sigma xtc_probability "
    "xtc_threshold repeat_penalty presence_penalty frequency_penalty dry_multiplier dry_base "
    "mirostat_tau mirostat_eta adaptive_target adaptive_decay"
).split()
STRINGS = ("grammar", "reasoning_format", "reasoning_effort", "reasoning_budget_message")
STRINGS += ("reasoning_budget_start_tag", "reasoning_budget_end_tag", "cache_salt")
OBJECTS = ("stream_options", "response_format", "json_schema", "chat_template_kwargs")
LISTS = ("messages", "tools", "dry_sequence_breakers")

WRONG_TYPES: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(BOOLEANS, ("yes", 1, 0, [], {}, 0.5)),
    **dict.fromkeys(INTEGERS, ("7", True, [], {}, 0.5, [1])),
    **dict.fromkeys(NUMBERS, ("0.5", True, [], {}, [0.5])),
    **dict.fromkeys(STRINGS, (1, True, [], {}, ["a"])),
    **dict.fromkeys(OBJECTS, (1, True, "a", [], [{}])),
    **dict.fromkeys(LISTS, (1, True, "a", {}, {"a": 1})),
    "stop": (1, True, {}, [1], [["a"]], [None]),
    "logit_bias": (1, True, "a", [1], [[1]], [[1, 2, 3]], [[{}, 1]], [[1, "a"]], [[1, True]], {"a": {}}),
    "samplers": (1, True, {}, [1], ["no such sampler"], "?"),
    "tool_choice": (1, True, [], "sometimes", {}, {"function": {}}, {"function": {"name": "absent"}}),
    "continue_final_message": (1, [], {}, "sometimes"),
    "reasoning_budget_end_tags": (1, True, {}, "a", [1], ["a"] * 17, ["a" * 257]),
    "top_logprobs": ("7", True, [], {}, 0.5, 3),
}
# Taken to the nearest value that makes sense, as in llama-server.
CLAMPED = "temperature top_k top_p min_p xtc_probability xtc_threshold mirostat adaptive_target".split()
HUGE: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys([f for f in INTEGERS if f not in CLAMPED], (-(10**18), 10**18, -1e300, 1e300)),
    **dict.fromkeys([f for f in NUMBERS if f not in CLAMPED], (-1e300, 1e300, 10**18)),
    "top_logprobs": (-1, 21, 10**18),
}


def as_params(table: dict[str, tuple[Any, ...]]) -> list[Any]:
    return [
        pytest.param(field, value, id=f"{field}-{value!r}")
        for field, values in table.items()
        for value in values
    ]


@pytest.mark.parametrize(("field", "value"), as_params(WRONG_TYPES))
def test_wrong_type(running: LiveServer, field: str, value: Any) -> None:
    status, answer = running.chat(**{field: value})
    message = check_error(status, answer)
    assert field in message
    assert answer["error"]["param"].startswith(field)
    assert answer["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(("field", "value"), as_params(HUGE))
def test_negative_or_huge(running: LiveServer, field: str, value: Any) -> None:
    status, answer = running.chat(**{field: value})
    assert field in check_error(status, answer)
    assert answer["error"]["param"] == field


@pytest.mark.parametrize("value", [-1e300, 1e300, 10**18])
@pytest.mark.parametrize("field", CLAMPED)
def test_clamped(running: LiveServer, field: str, value: float) -> None:
    status, answer = running.chat(**{field: value, "max_tokens": 1})
    assert status == 200, answer


@pytest.mark.parametrize(
    "field", [*BOOLEANS, *INTEGERS, *NUMBERS, *STRINGS, *OBJECTS, "stop", "tools", "samplers"]
)
def test_null_means_absent(running: LiveServer, field: str) -> None:
    status, answer = running.chat(**{field: None, "max_tokens": 1})
    assert status == 200, answer


TEXT = {"role": "user", "content": "a"}
MESSAGES: list[tuple[str, Any]] = [
    ("messages", []),
    ("messages[0]", [1]),
    ("messages[0]", ["a"]),
    ("messages[0]", [None]),
    ("messages[0].role", [{}]),
    ("messages[0].role", [{"content": "a"}]),
    ("messages[0].role", [{"role": "wizard", "content": "a"}]),
    ("messages[0].role", [{"role": "", "content": "a"}]),
    ("messages[0].role", [{"role": 1, "content": "a"}]),
    ("messages[1].role", [TEXT, {"role": "USER", "content": "a"}]),
    ("messages[0].content", [{"role": "user"}]),
    ("messages[0].content", [{"role": "user", "content": None}]),
    ("messages[0].content", [{"role": "user", "content": 1}]),
    ("messages[0].content", [{"role": "user", "content": {"text": "a"}}]),
    ("messages[0].content[0]", [{"role": "user", "content": ["a"]}]),
    ("messages[0].content[0].type", [{"role": "user", "content": [{"text": "a"}]}]),
    ("messages[0].content[0].text", [{"role": "user", "content": [{"type": "text"}]}]),
    ("messages[0].content[0].text", [{"role": "user", "content": [{"type": "text", "text": 1}]}]),
    (
        "messages[0].content[0]",
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
    ),
    ("messages[0].tool_calls", [{"role": "user", "content": "a", "tool_calls": []}]),
    ("messages[1].tool_calls[0]", [TEXT, {"role": "assistant", "tool_calls": [1]}]),
    ("messages[1].tool_calls[0].function", [TEXT, {"role": "assistant", "tool_calls": [{}]}]),
    ("messages[1].reasoning_content", [TEXT, {"role": "assistant", "content": "a", "reasoning_content": 1}]),
    ("messages[2]", [TEXT, {"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}]),
]


@pytest.mark.parametrize(("field", "messages"), MESSAGES)
def test_messages(running: LiveServer, field: str, messages: Any) -> None:
    status, answer = running.chat(messages=messages)
    check_error(status, answer)
    assert answer["error"]["param"] == field
    assert field.partition("[")[0] in answer["error"]["message"]


def test_no_messages(running: LiveServer) -> None:
    status, answer = running.post(b"{}")
    check_error(status, answer, param="messages")


@pytest.mark.parametrize("text", ["", " ", "\0", "\u2028", "<|im_end|>", "\ud83d\ude00" * 10])
def test_odd_but_legal_texts_are_answered(running: LiveServer, text: str) -> None:
    status, answer = running.chat(messages=[{"role": "user", "content": text}])
    assert status == 200, answer


def test_prompt_beyond_the_context(running: LiveServer) -> None:
    n_ctx = running.get("/props")["default_generation_settings"]["n_ctx"]
    for n in (10_000, 1_000_000):
        status, answer = running.chat(messages=[{"role": "user", "content": "1 2 " * n}])
        check_error(status, answer)
        error = answer["error"]
        assert error["type"] == "exceed_context_size_error"
        assert error["n_prompt_tokens"] > error["n_ctx"] == n_ctx


@pytest.mark.parametrize("id_slot", [2, 1000, 2**31 - 1])
def test_slot_that_does_not_exist(running: LiveServer, id_slot: int) -> None:
    status, answer = running.chat(id_slot=id_slot)
    check_error(status, answer, param="id_slot")


@pytest.mark.parametrize("seed", [0, 1, -1, 2**31, 2**32 - 1, 2**32, 2**53, -(2**53)])
def test_every_seed_is_taken_and_repeats(running: LiveServer, seed: int) -> None:
    answers = [running.chat(seed=seed, temperature=2.0, max_tokens=8) for _ in range(2)]
    assert [status for status, _ in answers] == [200, 200]
    if seed >= 0 and seed != 2**32 - 1:  # -1 is a random one
        first, second = (answer["choices"][0]["message"] for _, answer in answers)
        assert first == second


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens", "n_predict"])
def test_no_token_wanted(running: LiveServer, field: str) -> None:
    body = {"max_tokens": None, field: 0}
    status, answer = running.chat(**body)
    assert status == 200, answer
    assert answer["usage"]["completion_tokens"] == 0
    assert answer["choices"][0]["finish_reason"] == "length"
    assert not answer["choices"][0]["message"]["content"]


def test_stop_strings_of_odd_kinds(running: LiveServer) -> None:
    for stop in ("", [], ["", ""], "\0", ["a"] * 64, "x" * 4096, "\ud83d\ude00"):
        status, answer = running.chat(stop=stop)
        assert status == 200, answer
    status, answer = running.chat(stop=["x"] * 1000)
    check_error(status, answer, param="stop")
    status, answer = running.chat(stop="x" * 1_000_000)
    check_error(status, answer, param="stop")
    status, answer = running.chat(stop=["a", "x" * 1_000_000])
    check_error(status, answer, param="stop[1]")


def test_everything_is_settled_after_all_this(server: LiveServer) -> None:
    assert server.n_busy() == 0
