"""The engine under asyncio and trio: many streams, leaving them early, cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import anyio
import pytest

from pyllama.answer import Delta, Prefill
from pyllama.engine import Engine
from pyllama.errors import EngineError, InvalidRequestError
from pyllama.stream import Stream

pytestmark = pytest.mark.anyio

QUESTION = [{"role": "user", "content": "What is 17 + 25?"}]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine(n_ctx=2048, n_parallel=2, n_threads=1) as engine:
        yield engine


async def endless(engine: Engine) -> Stream:
    return await engine.chat(QUESTION, max_tokens=-1, ignore_eos=True)


async def no_token_comes_any_more(engine: Engine) -> bool:
    # slots() answers at the top of a step, right before what is cancelled is dropped: only the decode that
    # runs now may still bring a token.
    await engine.slots()
    before = engine.metrics()["generated_tokens"]
    busy = [await engine.slots() for _ in range(20)][-1]
    return not any(slot["is_processing"] for slot in busy) and engine.metrics()["generated_tokens"] == before


async def test_many_streams(engine: Engine) -> None:
    answers: list[str] = []

    async def ask() -> None:
        stream = await engine.chat(QUESTION, temperature=0, max_tokens=400)
        answers.append("".join([delta.content async for delta in stream]))

    async with anyio.create_task_group() as tasks:
        for _ in range(6):
            tasks.start_soon(ask)
    assert len(answers) == 6
    assert set(answers) == {answers[0]}
    assert "42" in answers[0]


async def test_break_cancels_at_once(engine: Engine) -> None:
    stream = await endless(engine)
    async for _delta in stream:
        break
    assert await no_token_comes_any_more(engine)
    seen = await stream.result()
    assert seen.finish_reason is None
    assert seen.reasoning or seen.content


async def test_an_exception_in_the_loop_cancels(engine: Engine) -> None:
    stream = await endless(engine)

    async def fail() -> None:
        async for _delta in stream:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await no_token_comes_any_more(engine)


async def test_dropping_the_stream_cancels(engine: Engine) -> None:
    stream = await endless(engine)
    del stream
    assert await no_token_comes_any_more(engine)


async def test_cancelling_the_task_cancels(engine: Engine) -> None:
    started = anyio.Event()

    async def read() -> None:
        async for _delta in await endless(engine):
            started.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await started.wait()
        tasks.cancel_scope.cancel()
    assert await no_token_comes_any_more(engine)


async def test_a_generator_around_the_loop(engine: Engine) -> None:
    async def words() -> AsyncIterator[str]:
        async for delta in await endless(engine):
            yield delta.reasoning

    async with aclosing(words()) as generator:  # type: ignore[type-var]
        async for _word in generator:
            break
    assert await no_token_comes_any_more(engine)


async def test_closing_wakes_a_task_that_reads(engine: Engine) -> None:
    stream = await endless(engine)
    deltas: list[Delta] = []
    started = anyio.Event()

    async def read() -> None:
        async for delta in stream:
            deltas.append(delta)
            started.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await started.wait()
        await stream.aclose()
    assert deltas


async def test_result_holds_what_was_iterated(engine: Engine) -> None:
    stream = await engine.chat(QUESTION, temperature=0, max_tokens=400)
    content = "".join([delta.content async for delta in stream])
    answer = await stream.result()
    assert answer.content == content
    assert answer.finish_reason == "stop"


async def test_prefill_progress(engine: Engine) -> None:
    stream = await engine.chat(QUESTION, max_tokens=1, return_progress=True)
    seen = [delta.prefill async for delta in stream if delta.prefill is not None]
    assert isinstance(seen[-1], Prefill)
    assert seen[-1].processed == seen[-1].total == stream.n_prompt_tokens


async def test_cancelled_loads_leave_an_engine_that_can_start() -> None:
    engine = Engine(n_ctx=512, n_threads=1)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await engine.start()
    assert scope.cancelled_caught
    async with engine:
        assert engine.n_ctx == 512


async def test_progress_is_reported_on_the_loop() -> None:
    seen: list[float] = []
    async with Engine(n_ctx=512, n_threads=1, progress=seen.append) as engine:
        assert engine.n_slots == 4
    assert seen
    assert all(0 <= value <= 1 for value in seen)


async def test_from_flags() -> None:
    async with Engine.from_flags("-c 1024 -np 2 -t 1 --alias 'my model'") as engine:
        assert engine.n_slots == 2
    async with Engine.from_flags(["-c", "1024", "-np", "1", "-kvu"]) as engine:
        assert engine.n_ctx == 1024
    with pytest.raises(InvalidRequestError, match="no-such-flag"):
        Engine.from_flags("--no-such-flag")


async def test_another_loop_is_refused(engine: Engine) -> None:
    def elsewhere() -> None:
        with pytest.raises(EngineError, match="another event loop"):
            asyncio.run(endless(engine))  # type: ignore[arg-type]

    await anyio.to_thread.run_sync(elsewhere)


async def test_text_requests(engine: Engine) -> None:
    prompt = await engine.apply_template(QUESTION)
    tokens = await engine.tokenize(prompt)
    assert await engine.detokenize(tokens) == prompt
    whole = await (await engine.completion(tokens, temperature=0, n_predict=400)).result()
    assert "42" in whole.content
