"""Random controls against a running engine, compared with a model of what a request can be in."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pyllama.answer import Completion, ControlResult, Delta
from pyllama.engine import Engine
from pyllama.stream import Stream

QUESTIONS = ("What is 17 + 25?", "What is 61 + 18?", "What is 44 + 39?")
MAX_PAUSED = 2

# (request, what to do with it); "wait" takes the next delta of its stream.
actions = st.sampled_from(
    "pause pause resume resume stop wait wait cancel".split()
    + "reasoning_end reasoning_end reasoning_budget inject".split()
)
steps = st.lists(st.tuples(st.integers(0, 3), actions), min_size=1, max_size=25)


@dataclass
class Model:
    """One request as the test believes it to be."""

    stream: Stream
    question: str
    iterator: AsyncIterator[Delta]
    paused: bool = False
    ended: str = ""  # how the test ended it
    seen_finished: bool = False
    position: int = 0
    n_armed: int = 0  # ends of the reasoning that were promised
    steered: bool = False  # the text may be another one
    injected: bool = False  # and hold anything
    deltas: list[Delta] = field(default_factory=list)
    controls: list[tuple[str, int | None]] = field(default_factory=list)

    def check(self, action: str, result: ControlResult, n_paused: int) -> None:
        """Check an answer against the state, and take it over."""
        if self.is_gone(result):
            return
        allowed = {
            "pause": not self.paused and n_paused < MAX_PAUSED,
            "resume": self.paused,
            "stop": True,
        }[action]
        assert result.success == result.applied == allowed, (action, result)
        assert (result.message is None) == allowed
        if allowed:
            self.take_position(action, result)
            self.paused = action == "pause"
        assert result.paused == self.paused
        if action == "stop":
            assert result.state == "finished"
            self.ended = "stop"
        else:
            assert result.state in ("queued", "prefill", "reasoning", "content")

    def check_reasoning(self, action: str, result: ControlResult) -> None:
        """The same of what steers the reasoning."""
        if self.is_gone(result):
            return
        assert result.paused == self.paused
        if result.applied:
            assert result.success
            self.take_position(action, result)
            self.steered = True
            return
        assert action == "reasoning_end"  # a budget is taken over at any time
        assert result.position is None
        if result.success:
            assert self.position == 0, "what has begun is ended or it is not"
            self.n_armed += 1
            self.steered = True
        else:
            assert result.message == "the answer is not inside its reasoning"
            assert result.state in ("content", "queued")  # a pause may have cost it its slot

    def check_injection(self, result: ControlResult) -> None:
        """The same of text that is put in."""
        if self.is_gone(result):
            return
        assert result.paused == self.paused
        assert result.success, result
        assert result.applied
        self.steered = self.injected = True
        self.take_position("inject", result)

    def is_gone(self, result: ControlResult) -> bool:
        """Whether the request had ended; it must have had a way to."""
        if result.state == "finished" and not result.success:
            assert result == ControlResult(
                False, state="finished", message="no active completion for this id"
            )
            assert not self.paused, "a paused request cannot end by itself"
            self.seen_finished = True
            return True
        assert not self.ended
        assert not self.seen_finished
        return False

    def take_position(self, action: str, result: ControlResult) -> None:
        """A position never goes back."""
        assert result.position is not None
        assert result.position >= self.position
        # Paused, only text that is forced comes.
        assert not self.paused or self.steered or result.position == self.position, (
            "it went on while it was paused"
        )
        self.position = result.position
        self.controls.append((action, result.position))


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(steps=steps)
def test_random_controls(steps: list[tuple[int, str]]) -> None:
    asyncio.run(play(steps))


async def play(steps: list[tuple[int, str]]) -> None:
    async with Engine(n_ctx=4096, n_parallel=2, n_threads=1, max_paused=MAX_PAUSED) as engine:
        expected = {question: await (await chat(engine, question)).result() for question in QUESTIONS}
        models: dict[int, Model] = {}
        for index, action in steps:
            if index not in models:
                question = QUESTIONS[index % len(QUESTIONS)]
                stream = await chat(engine, question, reasoning_control=True)
                models[index] = Model(stream, question, aiter(stream))
            await act(models, index, action)
        for model in models.values():
            if model.paused and not model.ended:
                model.check("resume", await model.stream.control("resume"), 0)
        for model in models.values():
            model.deltas += [delta async for delta in model.iterator]
            check_answer(model, expected[model.question])
        slots = await engine.slots()
        assert not any(slot["is_processing"] for slot in slots)
        assert engine.metrics()["requests_queued"] == 0


async def act(models: dict[int, Model], index: int, action: str) -> None:
    model = models[index]
    if action == "cancel":
        model.stream.cancel()
        model.paused = False
        model.ended = model.ended or "cancel"
    elif action == "wait":
        # Nothing comes from one that is paused, or from a queued one behind paused ones.
        if not any(other.paused for other in models.values()):
            with contextlib.suppress(StopAsyncIteration):
                model.deltas.append(await anext(model.iterator))
    elif action == "inject":
        model.check_injection(await model.stream.inject(" Well, "))
    elif action.startswith("reasoning"):
        fields = {"tokens": 5} if action == "reasoning_budget" else {}
        model.check_reasoning(action, await model.stream.control(action, **fields))
    else:
        n_paused = sum(other.paused for other in models.values())
        model.check(action, await model.stream.control(action), n_paused)


def check_parks(told: list[str], ended: bool) -> None:
    """Only a paused request gives its slot away, once, and has one again before it goes on."""
    paused = parked = False
    for action in told:
        paused = action == "pause" if action in ("pause", "resume") else paused
        if action in ("park", "unpark"):
            assert parked == (action == "unpark")
            assert paused == (action == "park")
            parked = not parked
    assert ended or not parked


def check_answer(model: Model, expected: Completion) -> None:
    notes = [delta.control for delta in model.deltas if delta.control is not None]
    check_parks([note.action for note in notes], bool(model.ended))
    told = [(note.action, note.position) for note in notes if note.action not in ("park", "unpark")]
    for _ in range(model.n_armed):  # each is told once more, whatever came of it
        promised = next(note for note in told if note[0] == "reasoning_end" and note not in model.controls)
        told.remove(promised)
    assert told == model.controls
    reasoning = "".join(delta.reasoning for delta in model.deltas)
    content = "".join(delta.content for delta in model.deltas)
    finish = model.deltas[-1]
    if model.injected:
        assert len(reasoning + content) > 0
    elif model.steered:
        assert "<think>" not in content
        assert "</think>" not in content
    elif finish.finish_reason == "stop" and not model.ended:
        assert (reasoning, content) == (expected.reasoning, expected.content)
    else:
        assert expected.reasoning.startswith(reasoning)
        assert expected.content.startswith(content)
        assert not content or reasoning == expected.reasoning
    if model.ended == "stop":
        assert finish.usage is not None
        assert finish.usage.completion_tokens == model.position


async def chat(engine: Engine, question: str, **options: Any) -> Stream:
    return await engine.chat([{"role": "user", "content": question}], temperature=0, **options)
