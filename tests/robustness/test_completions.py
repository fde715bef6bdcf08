"""Raw completions over HTTP, in llama-server's own dialect and OpenAI's legacy one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from live_server import QUESTION, LiveServer, check_error

GREEDY = {"temperature": 0, "n_predict": 12}


@pytest.fixture(scope="module")
def prompt(running: LiveServer) -> str:
    """The demo model's chat prompt, so that it has something to say."""
    status, answer = running.ask("/apply-template", {"messages": QUESTION})
    assert status == 200
    return str(answer["prompt"])


def events(running: LiveServer, path: str, body: dict[str, Any]) -> list[Any]:
    """Return the events of a stream; "[DONE]" is one."""
    status, text = running.request("POST", path, json.dumps({**body, "stream": True}).encode())
    assert status == 200, text
    data = [event.removeprefix("data: ") for event in text.decode().split("\n\n") if event]
    return [event if event == "[DONE]" else json.loads(event) for event in data]


def test_native_body(running: LiveServer, prompt: str) -> None:
    status, answer = running.ask("/completion", {"prompt": prompt, **GREEDY, "return_tokens": True})
    assert status == 200
    assert len(answer["tokens"]) == 12
    _, text = running.ask("/detokenize", {"tokens": answer["tokens"]})
    assert answer["content"] == text["content"]
    assert answer["stop"] is True
    assert answer["stop_type"] == "limit"
    assert answer["stopping_word"] == ""
    assert answer["truncated"] is False
    assert answer["has_new_line"] is ("\n" in answer["content"])
    assert answer["tokens_predicted"] == 12
    assert answer["tokens_evaluated"] + 11 == answer["tokens_cached"]
    assert answer["generation_settings"]["n_predict"] == 12
    assert answer["prompt"] == prompt
    assert answer["id_slot"] in (0, 1)
    assert answer["timings"]["predicted_n"] == 12
    _, again = running.ask("/completions", {"prompt": prompt, **GREEDY})
    assert (again["content"], again["tokens"]) == (answer["content"], [])


def test_native_stream_is_the_body_in_parts(running: LiveServer, prompt: str) -> None:
    _, whole = running.ask("/completion", {"prompt": prompt, **GREEDY, "return_tokens": True})
    *parts, last = events(running, "/completion", {"prompt": prompt, **GREEDY})
    assert "".join(part["content"] for part in parts) == whole["content"]
    assert [token for part in parts for token in part["tokens"]] == whole["tokens"]
    assert all(part["stop"] is False for part in parts)
    assert parts[-1]["tokens_predicted"] == 12
    assert (last["stop"], last["content"], last["tokens"]) == (True, "", [])
    assert {"generation_settings", "timings", "prompt", "stop_type"} <= set(last)


def test_a_prompt_may_be_text_tokens_or_both(running: LiveServer, prompt: str) -> None:
    _, tokens = running.ask("/tokenize", {"content": prompt, "add_special": True})
    ids = tokens["tokens"]
    _, head = running.ask("/detokenize", {"tokens": ids[:1]})
    _, tail = running.ask("/detokenize", {"tokens": ids[3:]})
    forms = (prompt, ids, {"prompt_string": prompt}, [head["content"], *ids[1:]], [*ids[:3], tail["content"]])
    answers = [running.ask("/completion", {"prompt": form, **GREEDY})[1] for form in forms]
    assert len({answer["content"] for answer in answers}) == 1
    assert {answer["tokens_evaluated"] for answer in answers} == {len(ids)}


def test_several_prompts(running: LiveServer, prompt: str) -> None:
    _, tokens = running.ask("/tokenize", {"content": "Hello!", "add_special": True})
    prompts = [prompt, tokens["tokens"], {"prompt_string": prompt}, ["Hel", *tokens["tokens"][1:]], "Once"]
    alone = [running.ask("/completion", {"prompt": each, **GREEDY})[1] for each in prompts]
    status, answers = running.ask("/completion", {"prompt": prompts, **GREEDY})
    assert status == 200
    assert [answer["index"] for answer in answers] == list(range(5))
    for answer, expected in zip(answers, alone, strict=True):
        for field in ("prompt", "tokens_evaluated", "tokens_predicted"):
            assert answer[field] == expected[field]
    # The demo model knows what to say to this one: its margins are above what batches round differently.
    assert answers[0]["content"] == answers[2]["content"] == alone[0]["content"]
    streamed = events(running, "/completion", {"prompt": prompts, **GREEDY})
    assert sorted(event["index"] for event in streamed if event["stop"]) == list(range(5))
    first = "".join(event["content"] for event in streamed if event["index"] == 2)
    assert first == alone[0]["content"]
    assert {event["tokens_evaluated"] for event in streamed if event["index"] == 4} == {
        alone[4]["tokens_evaluated"]
    }


def test_several_prompts_with_several_answers(running: LiveServer, prompt: str) -> None:
    body = {"prompt": [prompt, "Once", prompt], "n": 2, "temperature": 0, "max_tokens": 6}
    status, answer = running.ask("/v1/completions", body)
    assert status == 200
    choices = answer["choices"]
    assert [choice["index"] for choice in choices] == list(range(6))
    assert choices[0]["text"] == choices[1]["text"] == choices[4]["text"] == choices[5]["text"]
    assert answer["usage"]["completion_tokens"] == 36
    *parts, done = events(running, "/v1/completions", body)
    assert done == "[DONE]"
    assert {part["choices"][0]["index"] for part in parts} == set(range(6))
    assert parts[-1]["usage"]["prompt_tokens"] == answer["usage"]["prompt_tokens"]
    running.check_settled()


def test_a_bad_prompt_among_others(running: LiveServer, prompt: str) -> None:
    for prompts, field in (([prompt, []], "prompt"), ([prompt, [[1]]], "prompt[1]"), (["a"] * 257, "prompt")):
        status, answer = running.ask("/completion", {"prompt": prompts})
        check_error(status, answer)
        assert answer["error"]["param"] == field


def test_what_ends_an_answer_can_be_excluded(running: LiveServer, prompt: str) -> None:
    _, answer = running.ask("/completion", {"prompt": prompt, **GREEDY, "ignore_eos": True})
    biases = answer["generation_settings"]["logit_bias"]
    assert biases
    assert all(entry["bias"] is None for entry in biases)
    _, answer = running.ask("/completion", {"prompt": prompt, **GREEDY, "logit_bias": [[5, 1.5]]})
    assert answer["generation_settings"]["logit_bias"] == [{"token": 5, "bias": 1.5}]


def test_the_first_token_is_no_decode_step(running: LiveServer, prompt: str) -> None:
    _, answer = running.ask("/completion", {"prompt": prompt, "n_predict": 1})
    assert answer["timings"]["predicted_per_second"] == 0
    _, answer = running.ask("/completion", {"prompt": prompt, **GREEDY})
    timings = answer["timings"]
    assert timings["predicted_per_second"] == pytest.approx(1e3 * 11 / timings["predicted_ms"])


def test_verbose(running: LiveServer, prompt: str) -> None:
    status, answer = running.chat(verbose=True)
    assert status == 200
    assert answer["__verbose"]["prompt"] == prompt
    assert answer["__verbose"]["generation_settings"]["n_predict"] == 4
    assert "__verbose" not in running.chat(verbose=False)[1]
    _, answer = running.ask("/v1/completions", {"prompt": prompt, "max_tokens": 3, "verbose": True})
    assert answer["__verbose"]["content"] == answer["choices"][0]["text"]
    body = {"prompt": prompt, "max_tokens": 3, "verbose": True}
    told = [event for event in events(running, "/v1/completions", body) if "__verbose" in event]
    assert [event["choices"][0]["finish_reason"] for event in told] == ["length"]


def test_stop_strings(running: LiveServer, prompt: str) -> None:
    _, whole = running.ask("/completion", {"prompt": prompt, **GREEDY})
    stop = whole["content"][8:14]
    _, cut = running.ask("/completion", {"prompt": prompt, **GREEDY, "stop": [stop]})
    assert cut["content"] == whole["content"][: whole["content"].index(stop)]
    assert (cut["stop_type"], cut["stopping_word"]) == ("word", stop)
    _, ended = running.ask("/completion", {"prompt": prompt, "temperature": 0})
    assert ended["stop_type"] == "eos"
    assert "42" in ended["content"]


def test_probabilities(running: LiveServer, prompt: str) -> None:
    # Without an end: a hot answer may begin with it.
    body = {"prompt": prompt, "n_predict": 3, "n_probs": 4, "temperature": 1, "top_p": 1, "min_p": 0}
    body |= {"seed": 1, "ignore_eos": True}
    _, before = running.ask("/completion", body)
    for token in before["completion_probabilities"]:
        assert token["logprob"] <= 0
        assert len(token["top_logprobs"]) == 4
    _, after = running.ask("/completion", {**body, "post_sampling_probs": True, "temperature": 5})
    for token in after["completion_probabilities"]:
        assert 0 < token["prob"] <= 1
        tops = [top["prob"] for top in token["top_probs"]]
        assert tops == sorted(tops, reverse=True)
        assert sum(tops) <= 1.0001
    # A high temperature takes from the first what it gives to the others.
    assert after["completion_probabilities"][0]["top_probs"][0]["prob"] < 0.999
    streamed = events(running, "/completion", body)[:-1]
    assert [len(event["completion_probabilities"]) for event in streamed] == [1, 1, 1]


def test_response_fields(running: LiveServer, prompt: str) -> None:
    fields = ["content", "generation_settings/n_predict", "timings/nothing", "nothing", ""]
    _, answer = running.ask("/completion", {"prompt": prompt, **GREEDY, "response_fields": fields})
    assert set(answer) == {"content", "generation_settings/n_predict"}
    assert answer["generation_settings/n_predict"] == 12


def test_indentation(running: LiveServer, prompt: str) -> None:
    # The model answers in lines that are not indented.
    _, free = running.ask("/completion", {"prompt": prompt, "temperature": 0})
    _, answer = running.ask("/completion", {"prompt": prompt, "temperature": 0, "n_indent": 2})
    assert answer["stop_type"] == "limit"
    assert answer["content"] == free["content"][: free["content"].index("\n") + 1]


def test_openai_body_and_stream(running: LiveServer, prompt: str) -> None:
    _, native = running.ask("/completion", {"prompt": prompt, **GREEDY})
    body = {"prompt": prompt, "temperature": 0, "max_tokens": 12}
    status, answer = running.ask("/v1/completions", body)
    assert status == 200
    (choice,) = answer["choices"]
    assert choice == {"text": native["content"], "index": 0, "logprobs": None, "finish_reason": "length"}
    assert answer["object"] == "text_completion"
    assert answer["usage"]["completion_tokens"] == 12
    *parts, last, done = events(running, "/v1/completions", body)
    assert done == "[DONE]"
    assert "".join(part["choices"][0]["text"] for part in parts) == native["content"]
    assert {part["choices"][0]["finish_reason"] for part in parts} == {None}
    assert last["choices"][0]["finish_reason"] == "length"
    assert last["usage"]["total_tokens"] == answer["usage"]["total_tokens"]
    _, probed = running.ask("/v1/completions", {**body, "logprobs": 2})
    assert [len(token["top_logprobs"]) for token in probed["choices"][0]["logprobs"]["content"]] == [2] * 12


def test_choices(running: LiveServer, prompt: str) -> None:
    body = {"prompt": prompt, **GREEDY}
    _, single = running.ask("/completion", body)
    _, both = running.ask("/completion", {**body, "n": 2})
    assert [answer["content"] for answer in both] == [single["content"]] * 2
    assert [answer["index"] for answer in both] == [0, 1]
    parts = events(running, "/completion", {**body, "n_cmpl": 2})
    for index in range(2):
        own = [part for part in parts if part["index"] == index]
        assert "".join(part["content"] for part in own) == single["content"]
        assert [part["stop"] for part in own] == [False] * (len(own) - 1) + [True]
    _, whole = running.ask("/v1/completions", {**body, "n": 2})
    assert [choice["text"] for choice in whole["choices"]] == [single["content"]] * 2
    assert whole["usage"]["completion_tokens"] == 24
    *chunks, done = events(running, "/v1/completions", {**body, "n": 2})
    assert done == "[DONE]"
    assert [chunk["usage"]["completion_tokens"] for chunk in chunks if "usage" in chunk] == [24]
    for index in range(2):
        texts = [chunk["choices"][0]["text"] for chunk in chunks if chunk["choices"][0]["index"] == index]
        assert "".join(texts) == single["content"]


def test_grammar_and_schema(running: LiveServer, prompt: str) -> None:
    _, answer = running.ask("/completion", {"prompt": prompt, "grammar": 'root ::= "a"{5,5}', "n_predict": 9})
    assert answer["content"] == "aaaaa"
    _, answer = running.ask("/completion", {"prompt": prompt, "json_schema": {"const": 42}, "n_predict": 9})
    assert answer["content"] == "42"


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("prompt", {}),
        ("prompt", {"prompt": []}),
        ("prompt", {"prompt": 5}),
        ("prompt", {"prompt": [1.5]}),
        ("prompt", {"prompt": [-1]}),
        ("prompt", {"prompt": [10**9]}),
        ("prompt", {"prompt": [1, {}]}),
        ("prompt", {"prompt": {}}),
        ("prompt", {"prompt": {"prompt_string": "a", "multimodal_data": ["AAAA"]}}),
        ("prompt", {"prompt": ""}),
        ("n_indent", {"prompt": "a", "n_indent": -1}),
        ("n_keep", {"prompt": "a", "n_keep": -2}),
        ("n_discard", {"prompt": "a", "n_discard": 10**18}),
        ("n_probs", {"prompt": "a", "n_probs": 10**6}),
        ("logprobs", {"prompt": "a", "logprobs": True}),
        ("response_fields", {"prompt": "a", "response_fields": "content"}),
        ("response_fields", {"prompt": "a", "response_fields": ["a"] * 65}),
        ("return_tokens", {"prompt": "a", "return_tokens": 1}),
        ("post_sampling_probs", {"prompt": "a", "post_sampling_probs": "yes"}),
        ("grammar", {"prompt": "a", "grammar": "root ::= nowhere"}),
        ("grammar", {"prompt": "a", "grammar": 'root ::= "a"', "json_schema": {}}),
        ("json_schema", {"prompt": "a", "json_schema": {"type": "nothing"}}),
    ],
)
def test_errors(running: LiveServer, field: str, body: dict[str, Any]) -> None:
    for path in ("/completion", "/v1/completions"):
        status, answer = running.ask(path, body)
        check_error(status, answer)
        assert answer["error"]["param"].startswith(field)


def test_a_prompt_that_is_too_long(running: LiveServer) -> None:
    status, answer = running.ask("/completion", {"prompt": "a " * 10_000})
    check_error(status, answer)
    assert answer["error"]["type"] == "exceed_context_size_error"
    assert answer["error"]["n_prompt_tokens"] > answer["error"]["n_ctx"] == 4096
