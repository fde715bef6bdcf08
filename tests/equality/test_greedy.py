"""Greedy output is the same whatever else runs, and what llama.cpp itself gives token by token.

Compared are token ids, from the logprobs. The demo model's margins are large on its own tasks, so that the
rounding of other batch shapes changes none of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from pyllama import Batch, Context, Engine, Model
from pyllama.answer import Choice, Completion, Delta
from pyllama.models import demo_model_path
from pyllama.stream import Stream

pytestmark = pytest.mark.anyio

QUESTION = "What is 17 + 25?"
# What the demo model's template makes of it.
PROMPT = "<|im_start|>user\n" + QUESTION + "<|im_end|>\n<|im_start|>assistant\n"
N_TOKENS = 120


async def start(engine: Engine, question: str = QUESTION, **options: Any) -> Stream:
    fields = {"temperature": 0, "max_tokens": N_TOKENS, "logprobs": True, "top_logprobs": 1, **options}
    return await engine.chat([{"role": "user", "content": question}], **fields)


async def ask(engine: Engine, question: str = QUESTION, **options: Any) -> Completion:
    async with await start(engine, question, **options) as stream:
        return await stream.result()


def ids(answer: Completion | Choice) -> list[int]:
    return [entry.id for entry in answer.logprobs]


@pytest.fixture(params=[True, False], ids=["unified", "streams"])
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    flags = {"n_ctx": 17 * 512, "n_parallel": 17, "n_threads": 1, "kv_unified": request.param}
    async with Engine(**flags) as engine:
        yield engine


@pytest.fixture(scope="module")
def reference() -> list[int]:
    """Token ids of a plain loop: one sequence, one token a step, the largest logit."""
    with Model(demo_model_path()) as model, Context(model, n_ctx=512, n_threads=1) as context:
        vocab = model.vocab
        tokens = vocab.tokenize(PROMPT)
        batch = Batch(len(tokens))
        batch.add_sequence(tokens, 0, 0)
        context.decode(batch)
        found: list[int] = []
        position = len(tokens)
        while len(found) < N_TOKENS:
            token = int(np.argmax(context.logits(-1)))
            found.append(token)
            if vocab.is_eog(token):
                break
            batch.clear()
            batch.add(token, position, 0, logits=True)
            context.decode(batch)
            position += 1
        return found


async def test_equal_to_a_plain_loop(engine: Engine, reference: list[int]) -> None:
    answer = await ask(engine)
    assert len(answer.logprobs) > 10
    assert ids(answer) == reference[: len(answer.logprobs)]
    assert len(reference) - len(answer.logprobs) in (0, 1)  # the token that ends the answer has no text


async def test_equal_among_sixteen_others(engine: Engine) -> None:
    alone = ids(await ask(engine, cache_prompt=False))
    others = [ask(engine, f"What is {n} + {3 * n}?", cache_prompt=False) for n in range(10, 26)]
    answer, *_ = await asyncio.gather(ask(engine, cache_prompt=False), *others)
    assert ids(answer) == alone


async def test_equal_after_a_prefix_hit(engine: Engine) -> None:
    first = await ask(engine, id_slot=0)
    second = await ask(engine, id_slot=0)
    assert first.usage.cached_tokens == 0
    assert second.usage.cached_tokens > 0
    assert ids(second) == ids(first)


async def test_equal_after_the_cancel_of_a_neighbour(engine: Engine) -> None:
    alone = ids(await ask(engine, cache_prompt=False))
    neighbours = [await start(engine, f"Count from {n}", max_tokens=-1, ignore_eos=True) for n in range(4)]
    stream = await start(engine, cache_prompt=False)
    deltas: list[Delta] = []
    async for delta in stream:
        deltas.append(delta)
        if neighbours and delta.logprobs:
            await neighbours.pop().aclose()
    assert not neighbours
    assert [entry.id for delta in deltas for entry in delta.logprobs] == alone


async def test_choices_equal_a_single_request(engine: Engine) -> None:
    alone = ids(await ask(engine, cache_prompt=False))
    before = engine.metrics()
    neighbour = await start(engine, "Count from 3", max_tokens=-1, ignore_eos=True, cache_prompt=False)
    group, single = await asyncio.gather(
        ask(engine, n=4, cache_prompt=False), ask(engine, "Reverse the word: garden", cache_prompt=False)
    )
    await neighbour.aclose()
    assert [choice.index for choice in group.choices] == [0, 1, 2, 3]
    assert [[entry.id for entry in choice.logprobs] for choice in group.choices] == [alone] * 4
    assert group.usage.completion_tokens == sum(choice.usage.completion_tokens for choice in group.choices)
    prompts = group.usage.prompt_tokens + single.usage.prompt_tokens + neighbour.n_prompt_tokens
    assert engine.metrics()["prompt_tokens"] - before["prompt_tokens"] == prompts


@pytest.mark.parametrize("budget", [0, 5])
async def test_choices_keep_the_reasoning_budget(engine: Engine, budget: int) -> None:
    options = {
        "reasoning_budget_tokens": budget,
        "reasoning_budget_message": " Enough.",
        "cache_prompt": False,
    }
    alone = await ask(engine, **options)
    group = await ask(engine, n=3, **options)
    assert [ids(choice) for choice in group.choices] == [ids(alone)] * 3
    assert [choice.content for choice in group.choices] == [alone.content] * 3
    assert [choice.reasoning for choice in group.choices] == [alone.reasoning] * 3
