"""An answer that is stopped, sent back and continued has the very tokens of one that was never stopped."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pyllama import Engine
from pyllama.answer import Choice, Completion

pytestmark = pytest.mark.anyio

# Of the model's own tasks: its margins are large there.
QUESTIONS = [
    "What is 17 + 25?",
    "How many times does the letter r occur in strawberry?",
    "Reverse the word: planet",
]
N_STOPS = 12


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine(n_ctx=2048, n_parallel=2, n_threads=1) as engine:
        yield engine


async def ask(engine: Engine, messages: list[dict[str, str]], **options: Any) -> Completion:
    fields = {"temperature": 0, "max_tokens": 300, "logprobs": True, **options}
    async with await engine.chat(messages, **fields) as stream:
        return await stream.result()


def ids(answer: Completion) -> list[int]:
    return [entry.id for entry in answer.logprobs]


def message_of(answer: Completion) -> dict[str, str]:
    """What a client sends back."""
    message = {"role": "assistant", "content": answer.content}
    return {**message, "reasoning_content": answer.reasoning} if answer.reasoning else message


@pytest.mark.parametrize("question", QUESTIONS)
async def test_the_tokens_are_those_of_the_whole_answer(engine: Engine, question: str) -> None:
    messages = [{"role": "user", "content": question}]
    whole = await ask(engine, messages)
    assert whole.finish_reason == "stop"
    assert whole.reasoning
    assert whole.content
    n_tokens = whole.usage.completion_tokens
    for n_first in random.Random(question).sample(range(1, n_tokens), min(N_STOPS, n_tokens - 1)):
        first = await ask(engine, messages, max_tokens=n_first)
        assert first.finish_reason == "length"
        assert ids(first) == ids(whole)[:n_first]
        second = await ask(engine, [*messages, message_of(first)])
        n_kept = second.usage.prompt_tokens - whole.usage.prompt_tokens
        assert 0 <= n_kept <= n_first
        assert ids(whole)[:n_kept] + ids(second) == ids(whole)
        assert first.reasoning + second.reasoning == whole.reasoning
        assert first.content + second.content == whole.content
        assert second.finish_reason == "stop"
        assert second.usage.completion_tokens == n_tokens - n_kept


async def test_stopped_again_and_again(engine: Engine) -> None:
    messages = [{"role": "user", "content": QUESTIONS[0]}]
    whole = await ask(engine, messages)
    said = Completion(id="")
    for _ in range(whole.usage.completion_tokens):
        part = await ask(engine, [*messages, message_of(said)], max_tokens=3)
        choice = Choice(reasoning=said.reasoning + part.reasoning, content=said.content + part.content)
        said = Completion(id="", choices=(choice,))
        if part.finish_reason == "stop":
            break
    assert (said.reasoning, said.content) == (whole.reasoning, whole.content)


async def test_the_echo_repeats_what_was_sent(engine: Engine) -> None:
    messages = [{"role": "user", "content": QUESTIONS[0]}]
    whole = await ask(engine, messages)
    first = await ask(engine, messages, max_tokens=whole.usage.completion_tokens - 3)
    assert first.content
    second = await ask(engine, [*messages, message_of(first)], echo=True)
    assert (second.reasoning, second.content) == (whole.reasoning, whole.content)


async def test_the_flag_turns_the_automatic_off() -> None:
    flags = {"n_ctx": 512, "n_threads": 1, "prefill_assistant": False}
    messages = [{"role": "user", "content": QUESTIONS[0]}, {"role": "assistant", "content": "17 + 25 ="}]
    async with Engine(**flags) as engine:
        closed = await ask(engine, messages, max_tokens=1)
        continued = await ask(engine, messages, max_tokens=1, continue_final_message=True)
    # The template's end of the turn and start of a new one.
    assert closed.usage.prompt_tokens != continued.usage.prompt_tokens
