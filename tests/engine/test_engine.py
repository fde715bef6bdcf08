"""The engine in process, with the demo model."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pyllama import samplers
from pyllama.answer import Completion
from pyllama.engine import Engine
from pyllama.engine_base import to_argv
from pyllama.errors import ClosedError, ContextLengthError, InvalidRequestError, ModelLoadError

pytestmark = pytest.mark.anyio

QUESTION = [{"role": "user", "content": "What is 17 + 25?"}]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine(n_ctx=2048, n_parallel=2, n_threads=1) as engine:
        yield engine


async def ask(engine: Engine, **options: Any) -> Completion:
    stream = await engine.chat(QUESTION, **{"temperature": 0, "max_tokens": 400, **options})
    async with stream:
        return await stream.result()


async def test_deltas_add_up_to_the_result(engine: Engine) -> None:
    whole = await ask(engine)
    assert whole.finish_reason == "stop"
    assert whole.content
    assert whole.reasoning
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    assert whole.usage.completion_tokens == whole.timings.predicted_n
    stream = await engine.chat(QUESTION, temperature=0, max_tokens=400)
    assert stream.n_prompt_tokens == whole.usage.prompt_tokens
    deltas = [delta async for delta in stream]
    assert "".join(delta.content for delta in deltas) == whole.content
    assert "".join(delta.reasoning for delta in deltas) == whole.reasoning
    assert [delta.finish_reason for delta in deltas] == [None] * (len(deltas) - 1) + ["stop"]


async def test_many_at_once_give_the_same_answer(engine: Engine) -> None:
    alone = await ask(engine)
    answers = await asyncio.gather(*(ask(engine) for _ in range(6)))
    assert {answer.content for answer in answers} == {alone.content}
    assert {answer.reasoning for answer in answers} == {alone.reasoning}


async def test_logprobs(engine: Engine) -> None:
    answer = await ask(engine, max_tokens=5, logprobs=True, top_logprobs=3)
    assert len(answer.logprobs) == 5
    for entry in answer.logprobs:
        assert entry.logprob is not None
        assert entry.logprob <= 0
        assert entry.bytes.decode("utf-8", "replace") == entry.token
        assert len(entry.top) == 3
        assert entry.top[0].logprob == entry.logprob  # greedy


async def test_choices(engine: Engine) -> None:
    single = await ask(engine)
    whole = await ask(engine, n=2)
    assert [choice.content for choice in whole.choices] == [single.content] * 2
    assert [choice.reasoning for choice in whole.choices] == [single.reasoning] * 2
    assert whole.content == single.content
    assert whole.usage.prompt_tokens == single.usage.prompt_tokens
    assert whole.usage.completion_tokens == 2 * single.usage.completion_tokens
    assert whole.timings.predicted_n == whole.usage.completion_tokens
    stream = await engine.chat(QUESTION, n=2, temperature=0, max_tokens=400)
    deltas = [delta async for delta in stream]
    for index in range(2):
        own = [delta for delta in deltas if delta.index == index]
        assert "".join(delta.content for delta in own) == single.content
        assert [delta.finish_reason for delta in own] == [None] * (len(own) - 1) + ["stop"]
        usage = own[-1].usage
        assert usage is not None
        assert usage.completion_tokens == single.usage.completion_tokens


async def test_choices_have_seeds_that_follow_each_other(engine: Engine) -> None:
    sampled: dict[str, Any] = {"temperature": 3.0, "top_p": 1.0, "min_p": 0.0, "max_tokens": 30}
    group = await ask(engine, n=2, seed=5, **sampled)
    singles = [await ask(engine, seed=seed, **sampled) for seed in (5, 6)]
    assert [c.content + c.reasoning for c in group.choices] == [s.content + s.reasoning for s in singles]
    assert singles[0].reasoning != singles[1].reasoning


async def test_choices_stop_alone(engine: Engine) -> None:
    options: dict[str, Any] = {"temperature": 2.0, "seed": 1, "max_tokens": 40, "stop": ["e"]}
    group = await ask(engine, n=2, logprobs=True, **options)
    for choice in group.choices:
        assert choice.finish_reason in ("stop", "length")
        assert (choice.stop_string == "e") == (choice.finish_reason == "stop" and "e" not in choice.content)
        assert len(choice.logprobs) <= choice.usage.completion_tokens


async def test_cancelling_ends_all_choices(engine: Engine) -> None:
    stream = await engine.chat(QUESTION, n=2, max_tokens=-1, ignore_eos=True)
    seen = set()
    async for delta in stream:
        seen.add(delta.index)
        if seen == {0, 1}:
            stream.cancel()
    assert engine.metrics()["requests_cancelled"] == 1
    assert (await ask(engine, n=2, max_tokens=2)).choices[1].finish_reason == "length"


@pytest.mark.parametrize("n", [0, -1, 3, 10**30, 1.5, "2", True, [2]])
async def test_a_bad_number_of_choices_is_named(engine: Engine, n: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await engine.chat(QUESTION, n=n)
    assert caught.value.param == "n"
    assert (await ask(engine, max_tokens=2)).finish_reason == "length"


async def test_leaving_early_cancels(engine: Engine) -> None:
    for _ in range(4):
        async with await engine.chat(QUESTION, max_tokens=-1, ignore_eos=True) as stream:
            async for _delta in stream:
                break
    assert (await ask(engine, max_tokens=2)).finish_reason == "length"
    assert engine.metrics()["requests_cancelled"] == 4


async def test_cancel_ends_the_iteration(engine: Engine) -> None:
    stream = await engine.chat(QUESTION, max_tokens=-1, ignore_eos=True)
    n_deltas = 0
    async for _delta in stream:
        n_deltas += 1
        stream.cancel()
    assert n_deltas >= 1


async def test_errors(engine: Engine) -> None:
    with pytest.raises(InvalidRequestError, match="messages"):
        await engine.chat([])
    with pytest.raises(InvalidRequestError, match="temperature"):
        await engine.chat(QUESTION, temperature="hot")
    with pytest.raises(ContextLengthError) as caught:
        await engine.chat([{"role": "user", "content": "1 2 3 " * 5000}])
    assert caught.value.n_prompt_tokens > caught.value.n_ctx
    assert (await ask(engine, max_tokens=2)).finish_reason == "length"


async def test_python_samplers_are_refused(engine: Engine) -> None:
    """They would need the GIL on the engine thread: SamplerChain takes them."""
    with pytest.raises(TypeError, match="Sampler is not JSON serializable"):
        await engine.chat(QUESTION, samplers=[samplers.custom(lambda logits, ids: None)])


async def test_closing_ends_what_runs() -> None:
    engine = Engine(n_ctx=512, n_threads=1)
    with pytest.raises(ClosedError):
        await engine.chat(QUESTION)
    await engine.start()
    await engine.start()
    stream = await engine.chat(QUESTION, max_tokens=-1, ignore_eos=True)
    reading = asyncio.create_task(stream.result())
    await engine.aclose()
    await engine.aclose()
    await asyncio.gather(reading, return_exceptions=True)
    await stream.aclose()
    with pytest.raises(ClosedError):
        await engine.chat(QUESTION)


async def test_bad_model_and_bad_flags(tmp_path: Any) -> None:
    path = tmp_path / "text.gguf"
    path.write_text("hello")
    with pytest.raises(ModelLoadError):
        await Engine(path).start()
    with pytest.raises(InvalidRequestError, match="no-such-flag"):
        Engine(no_such_flag=1)


async def test_introspection(engine: Engine) -> None:
    assert engine.props()["total_slots"] == 2
    assert len(await engine.slots()) == 2


def test_flags() -> None:
    flags = {"n_ctx": 512, "kv_unified": True, "mmap": False, "seed": None, "alias": ["a", "b"]}
    assert to_argv(flags) == ["--ctx-size", "512", "--kv-unified", "--no-mmap", "--alias", "a,b"]


def test_importing_touches_no_server_dependency() -> None:
    code = (
        "import sys, pyllama.engine, pyllama.stream; "
        "print([m for m in ('starlette', 'hypercorn', 'numpy', 'anyio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
