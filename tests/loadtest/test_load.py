from __future__ import annotations

import json
from itertools import islice, pairwise
from pathlib import Path

import pytest

from pyllama.loadtest import Ask, Load, PromptFileError, read_prompts
from pyllama.loadtest.words import WORDS, prompt


def test_prompts_are_seeded_and_share_what_they_should() -> None:
    one, other = (prompt(50, 20, seed=1, number=number).split() for number in (0, 1))
    assert one[:20] == other[:20]
    assert one[20:] != other[20:]
    assert len(one) == len(other) == 50
    assert one == prompt(50, 20, seed=1, number=0).split()
    assert one != prompt(50, 20, seed=2, number=0).split()
    assert set(one) <= set(WORDS)
    assert len(prompt(10, 30, seed=1, number=0).split()) == 10


def test_a_body_asks_for_a_stream_with_usage_and_nothing_unusual() -> None:
    body = Ask(prompt_words=7).body(3)
    assert set(body) == {"stream", "stream_options", "max_tokens", "messages"}
    assert body["stream_options"] == {"include_usage": True}
    ((message),) = body["messages"]
    assert message["role"] == "user"
    assert len(message["content"].split()) == 7
    assert "max_tokens" not in Ask(max_tokens=None).body(0)


def test_the_system_message_is_common() -> None:
    one, other = (Ask(system_words=30, prompt_words=5).body(number)["messages"] for number in (0, 1))
    assert one[0] == other[0]
    assert (one[0]["role"], len(one[0]["content"].split())) == ("system", 30)
    assert one[1] != other[1]


def test_fields_are_added_and_prompts_go_round() -> None:
    prompts = [{"messages": ["a"]}, {"messages": ["b"], "max_tokens": 3}]
    ask = Ask(fields={"temperature": 0}, prompts=prompts)
    assert [ask.body(n)["messages"] for n in range(3)] == [["a"], ["b"], ["a"]]
    assert [ask.body(n)["max_tokens"] for n in range(2)] == [64, 3]
    assert ask.body(0)["temperature"] == 0


def test_a_file_of_prompts(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    lines = ["one", {"prompt": "two", "max_tokens": 5}, {"messages": [{"role": "user", "content": "three"}]}]
    path.write_text("\n\n".join(json.dumps(line) for line in lines) + "\n")
    one, two, three = read_prompts(path)
    assert one == {"messages": [{"role": "user", "content": "one"}]}
    assert two == {"messages": [{"role": "user", "content": "two"}], "max_tokens": 5}
    assert three == lines[2]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no prompts"),
        ('"a"\n{', "line 2"),
        ("[1]", "line 1: neither"),
        ('{"prompt": 3}', "line 1: neither"),
        ('{"messages": "a"}', "line 1: neither"),
    ],
)
def test_a_bad_file_of_prompts(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(text)
    with pytest.raises(PromptFileError, match=words):
        read_prompts(path)
    path.write_bytes(b'"\xff"')
    with pytest.raises(PromptFileError, match="not UTF-8"):
        read_prompts(path)


def test_arrivals_are_seeded_and_keep_their_rate() -> None:
    load = Load(rate=50.0)
    times = list(islice(load.arrivals(), 5000))
    assert times == list(islice(load.arrivals(), 5000))
    assert times[0] == 0
    assert all(before <= after for before, after in pairwise(times))
    assert 95 < times[-1] < 105
    assert len({round(after - before, 9) for before, after in pairwise(times)}) > 4000
    assert list(islice(Load(rate=4.0, poisson=False).arrivals(), 4)) == [0, 0.25, 0.5, 0.75]


def test_how_many_requests_there_are() -> None:
    assert Load(users=3).n_requests == 3
    assert Load(users=3, requests=7).n_requests == 7
    assert Load(users=3, duration_s=1.0).n_requests == float("inf")
    assert Load(users=3, duration_s=1.0, requests=2).n_requests == 2
