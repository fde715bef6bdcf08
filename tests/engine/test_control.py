"""Controls of running requests, in process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pyllama.answer import ControlResult, Delta
from pyllama.engine import Engine
from pyllama.errors import ClosedError, EngineBusyError, InvalidRequestError
from pyllama.stream import Stream
from pyllama.sync import SyncEngine

pytestmark = pytest.mark.anyio

QUESTION = [{"role": "user", "content": "What is 17 + 25?"}]
# Longer than any test takes.
ENDLESS = {"ignore_eos": True, "max_tokens": -1}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine(n_ctx=65536, n_parallel=2, n_threads=1, max_paused=2) as engine:
        yield engine


async def ask(engine: Engine, **options: Any) -> Stream:
    return await engine.chat(QUESTION, **{"temperature": 0, "reasoning_control": True, **options})


async def wait_for_slot(stream: Stream) -> AsyncIterator[Delta]:
    """Return when the first delta is there, with the iterator, which cancels when it is dropped."""
    deltas = aiter(stream)
    await anext(deltas)
    return deltas


def text_of(deltas: list[Delta]) -> str:
    return "".join(delta.reasoning + delta.content for delta in deltas)


async def test_a_pause_and_a_resume_change_nothing(engine: Engine) -> None:
    async with await ask(engine) as stream:
        expected = await stream.result()
    async with await ask(engine) as stream:
        paused = await stream.control("pause")
        assert paused.success
        assert paused.applied
        assert paused.paused
        assert paused.state in ("queued", "prefill", "reasoning", "content")
        again = await stream.control("pause")
        assert not again.success
        assert again.message == "the completion is paused already"
        resumed = await stream.control("resume")
        where = resumed.queue_position  # it may have been paused before it got its slot
        expected_result = ControlResult(
            True, True, resumed.state, False, paused.position, queue_position=where
        )
        assert resumed == expected_result
        answer = await stream.result()
    assert (answer.reasoning, answer.content) == (expected.reasoning, expected.content)
    assert answer.finish_reason == "stop"


async def test_the_stream_tells_of_it_at_its_place(engine: Engine) -> None:
    async with await ask(engine, **ENDLESS, logprobs=True) as stream:
        deltas: list[Delta] = []
        async for delta in stream:
            deltas.append(delta)
            if len(deltas) == 3:
                paused = await stream.control("pause")
                resumed = await stream.control("resume")
                stopped = await stream.control("stop")
    notes = [delta.control for delta in deltas if delta.control is not None]
    assert [note.action for note in notes] == ["pause", "resume", "stop"]
    assert [note.position for note in notes] == [paused.position, resumed.position, stopped.position]
    assert stopped.state == "finished"
    n_before = 0
    for delta in deltas:
        if delta.control is not None:
            assert delta.control.position == n_before
            assert not delta.content + delta.reasoning
        n_before += len(delta.logprobs)
    assert deltas[-1].finish_reason == "stop"
    assert deltas[-1].usage is not None
    assert deltas[-1].usage.completion_tokens == stopped.position == n_before
    assert text_of(deltas)


async def test_a_paused_request_stands_still_and_others_go_on(engine: Engine) -> None:
    async with await ask(engine, **ENDLESS) as stream:
        _deltas = await wait_for_slot(stream)
        paused = await stream.control("pause")
        assert paused.success
        async with await ask(engine) as other:
            assert (await other.result()).finish_reason == "stop"
        assert [slot["state"] for slot in await engine.slots()].count("paused") == 1
        assert (await stream.control("resume")).position == paused.position
        metrics = engine.metrics()
        assert metrics["controls_pause"] == metrics["controls_resume"] == 1


async def test_a_queued_request_is_found(engine: Engine) -> None:
    async with await ask(engine, **ENDLESS) as first, await ask(engine, **ENDLESS) as second:
        _deltas = [await wait_for_slot(stream) for stream in (first, second)]
        async with await ask(engine) as third:
            assert (first.queue_position, third.queue_position) == (None, 0)
            refused = await third.control("resume")
            assert not refused.success
            assert (refused.state, refused.queue_position) == ("queued", 0)
            assert refused.message == "the completion is not paused"
            stopped = await third.control("stop")
            assert stopped == ControlResult(True, True, "finished", False, 0)
            answer = await third.result()
            assert answer.finish_reason == "stop"
            assert answer.content == answer.reasoning == ""


async def test_a_request_that_did_not_opt_in(engine: Engine) -> None:
    async with await ask(engine, reasoning_control=False) as stream:
        for action in ("pause", "resume", "stop"):
            refused = await stream.control(action)
            assert refused == ControlResult(
                False, message="reasoning control not enabled for this completion"
            )
        assert [delta for delta in [delta async for delta in stream] if delta.control] == []


async def test_a_request_that_has_ended(engine: Engine) -> None:
    async with await ask(engine, max_tokens=3) as stream:
        await stream.result()
        late = await stream.control("stop")
        assert late == ControlResult(False, state="finished", message="no active completion for this id")
        stream.cancel()
        assert await stream.control("resume") == late


async def test_bad_controls(engine: Engine) -> None:
    async with await ask(engine, **ENDLESS) as stream:
        for action in ("", "Stop", "nonsense"):
            with pytest.raises(InvalidRequestError, match="unknown control action") as caught:
                await stream.control(action)
            assert caught.value.param == "action"
        for text in (None, "", 7, ["no"], "x" * (2**16 + 1)):
            with pytest.raises(InvalidRequestError, match="'text'") as caught:
                await stream.control("inject", text=text)
            assert caught.value.param == "text"
        with pytest.raises(InvalidRequestError, match="'park'"):
            await stream.control("pause", park="yes")
        for choice in (-1, 1, 127, 128, "all", 0.5, [0]):
            with pytest.raises(InvalidRequestError, match="choice") as caught:
                await stream.control("stop", choice=choice)
            assert caught.value.param == "choice"
        assert (await stream.control("stop", choice=0)).success


async def test_text_is_put_in_at_its_place(engine: Engine) -> None:
    text = "Enough, I have to answer now."
    async with await ask(engine, **ENDLESS) as stream:
        iterator = aiter(stream)
        deltas = [await anext(iterator)]
        put = await stream.inject(text)
        assert (put.success, put.applied, put.paused, put.message) == (True, True, False, None)
        after = await stream.control("pause")
        await stream.control("stop")
        deltas += [delta async for delta in iterator]
    (place,) = [i for i, delta in enumerate(deltas) if delta.control and delta.control.action == "inject"]
    assert deltas[place].control.position == put.position
    assert text_of(deltas[place:]).startswith(text)
    assert put.position is not None
    assert after.position is not None
    assert after.position >= put.position + 5
    assert deltas[-1].usage is not None
    assert deltas[-1].usage.completion_tokens >= after.position


async def test_special_tokens_are_text(engine: Engine) -> None:
    text = "<|im_end|> is how I would end."
    async with await ask(engine, max_tokens=200, ignore_eos=True) as stream:
        assert (await stream.inject(text)).applied
        answer = await stream.result()
    assert text in answer.reasoning + answer.content
    assert answer.finish_reason == "length"


async def test_a_parked_request_gives_its_slot_away(engine: Engine) -> None:
    async with await ask(engine) as stream:
        expected = await stream.result()
    async with await ask(engine, **ENDLESS) as other, await ask(engine) as stream:
        _deltas = await wait_for_slot(other)
        assert (await stream.control("pause", park=True)).paused
        async with await ask(engine) as third:
            assert (await third.result()).content == expected.content
        resumed = await stream.control("resume")
        assert resumed.state == "queued"
        answer = await stream.result()
        assert (answer.reasoning, answer.content) == (expected.reasoning, expected.content)


async def test_ten_thousand_controls_at_once(engine: Engine) -> None:
    async with await ask(engine) as stream:
        expected = await stream.result()
    async with await ask(engine) as stream:
        actions = [("pause", "resume")[i % 2] for i in range(10_000)]
        answers = await asyncio.gather(
            *(stream.control(action) for action in actions), return_exceptions=True
        )
        n_busy = sum(isinstance(answer, EngineBusyError) for answer in answers)
        results = [answer for answer in answers if isinstance(answer, ControlResult)]
        assert len(results) + n_busy == len(actions)
        await stream.control("resume")
        deltas = [delta async for delta in stream]
    assert text_of(deltas) == expected.reasoning + expected.content
    n_notes = sum(delta.control is not None for delta in deltas)
    assert n_notes >= sum(result.success for result in results)


async def test_a_pause_ends_by_itself() -> None:
    async with (
        Engine(n_ctx=4096, n_parallel=1, n_threads=1, pause_timeout=0.01) as engine,
        await ask(engine) as stream,
    ):
        paused = await stream.control("pause")
        notes = [delta.control async for delta in stream if delta.control is not None]
    assert [(note.action, note.position) for note in notes] == [
        ("pause", paused.position),
        ("resume", paused.position),
    ]
    assert notes[1].message == "the pause has reached its time limit"


async def test_closing_the_engine_answers_controls() -> None:
    engine = Engine(n_ctx=4096, n_parallel=1, n_threads=1)
    await engine.start()
    stream = await ask(engine, **ENDLESS)
    assert (await stream.control("pause")).success
    controls = [asyncio.create_task(stream.control("resume")) for _ in range(3)]
    await engine.aclose()
    for answer in await asyncio.gather(*controls, return_exceptions=True):
        assert isinstance(answer, ControlResult | ClosedError)
    await stream.aclose()


def test_without_async() -> None:
    with (
        SyncEngine(n_ctx=65536, n_parallel=1, n_threads=1) as engine,
        engine.chat(QUESTION, reasoning_control=True, temperature=0, **ENDLESS) as stream,
    ):
        paused = stream.control("pause")
        assert paused.paused
        assert stream.control("resume").position == paused.position
        assert stream.control("stop").state == "finished"
        assert stream.result().finish_reason == "stop"
        assert stream.control("stop").message == "no active completion for this id"


async def test_the_reasoning_ends_when_told(engine: Engine) -> None:
    async with await ask(engine, reasoning_budget_message="Enough.") as stream:
        deltas = [await anext(iterator := aiter(stream))]
        ended = await stream.control("reasoning_end")
        assert ended.success
        assert ended.state in ("content", "reasoning", "queued", "prefill")
        deltas += [delta async for delta in iterator]
    notes = [delta.control for delta in deltas if delta.control is not None]
    assert [(note.action, note.applied) for note in notes] == [("reasoning_end", True)]
    at = next(i for i, delta in enumerate(deltas) if delta.control is not None)
    reasoning = "".join(delta.reasoning for delta in deltas)
    assert reasoning.rstrip().endswith("Enough.")
    assert not any(delta.content for delta in deltas[:at])
    assert "".join(delta.content for delta in deltas[at:])
    late = await stream.control("reasoning_end")
    assert late.state == "finished"


async def test_the_budget_can_be_changed(engine: Engine) -> None:
    async with await ask(engine, **ENDLESS) as one, await ask(engine, **ENDLESS) as other:
        running = [await wait_for_slot(one), await wait_for_slot(other)]
        async with await ask(engine, reasoning_budget_tokens=4) as stream:  # queued: it cannot end meanwhile
            assert (await stream.control("reasoning_budget", tokens=None)).success
            refused = await stream.control("reasoning_budget", tokens="+1")
            assert not refused.success
            assert (await stream.control("reasoning_budget", tokens=6)).success
            assert (await stream.control("reasoning_budget", tokens="+2")).success
            running.clear()
            answer = await stream.result()
        async with await ask(engine, reasoning_budget_tokens=8) as stream:
            expected = await stream.result()
    assert answer.reasoning == expected.reasoning
    assert answer.usage.reasoning_tokens == expected.usage.reasoning_tokens
    async with await ask(engine, **ENDLESS) as stream:
        for tokens in ("2", "+", "+x", -2, 0.5, [], True):
            with pytest.raises(InvalidRequestError) as caught:
                await stream.control("reasoning_budget", tokens=tokens)
            assert caught.value.param == "tokens"


async def test_sampling_changes_while_it_runs(engine: Engine) -> None:
    async with await ask(engine, **ENDLESS, temperature=1, seed=3) as stream:
        changed = await stream.control("sampling", temperature=0, max_tokens=2000, stop=["42"])
        assert changed.success
        assert changed.applied
        params = next(slot["params"] for slot in await engine.slots() if slot["is_processing"])
        assert (params["temperature"], params["max_tokens"], params["stop"]) == (0, 2000, ["42"])
        shorter = await stream.control("sampling", max_tokens=1)
        answer = await stream.result()
        assert answer.finish_reason in ("length", "stop")
        assert answer.usage.completion_tokens in (1, shorter.position, answer.usage.completion_tokens)


async def test_bad_changes_of_the_sampling_change_nothing(engine: Engine) -> None:
    async with await ask(engine, **ENDLESS) as stream:
        for fields in (
            {"temperature": "hot"},
            {"top_k": 1.5},
            {"temperature": 0.5, "repeat_penalty": 0},
            {"stop": 7},
            {"stop": ["x"] * 65},
            {"logit_bias": {"0": "much"}},
            {"logit_bias": [[10**9, 1]]},
            {"samplers": ["nonsense"]},
            {"max_tokens": -2},
            {"seed": "x"},
            {"stream": False},
            {"grammar": "root ::= 'a'"},
            {"temprature": 1},
        ):
            with pytest.raises(InvalidRequestError) as caught:
                await stream.control("sampling", **fields)
            assert caught.value.param is not None
            assert caught.value.param.split("[")[0] in fields
        with pytest.raises(InvalidRequestError, match="needs a field"):
            await stream.control("sampling")
        assert (await stream.control("pause")).success
        for slot in await engine.slots():
            if slot["is_processing"]:
                assert (slot["params"]["temperature"], slot["params"]["repeat_penalty"]) == (0, 1)


async def test_choices_are_controlled_together_or_alone() -> None:
    async with Engine(n_ctx=2048, n_parallel=3, n_threads=1) as engine:
        stream = await engine.chat(
            [{"role": "user", "content": "What is 17 + 25?"}],
            n=3,
            reasoning_control=True,
            max_tokens=-1,
            ignore_eos=True,
        )
        stopped = await stream.control("stop", choice=1)
        assert stopped.success
        assert stopped.state == "finished"
        with pytest.raises(InvalidRequestError, match="choice"):
            await stream.control("stop", choice=3)
        both = await stream.control("stop")
        assert both.success
        assert [choice.success for choice in both.choices] == [True, False, True]
        answer = await stream.result()
        assert [choice.finish_reason for choice in answer.choices] == ["stop"] * 3
