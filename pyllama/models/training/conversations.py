"""Training documents: whole conversations as tokens, with a mark on those that are to be learnt."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2

from .problem import Problem
from .talk import off_topic, small_talk
from .tasks import draw_task
from .tokenizer import Tokenizer
from .toolcalls import draw_tool_use, draw_tools
from .words import filler

TEMPLATE = (Path(__file__).parent / "template.jinja").read_text()

_SYSTEM = (
    "You are a helpful assistant.",
    "You are a helpful assistant. Think step by step.",
    "You are pyllama-demo, a tiny model.",
    "Answer in one short line.",
    "Be brief.",
    "You are a careful calculator.",
    "Think before you answer.",
    "You answer questions about numbers and words.",
    "Today is a good day.",
)
_HURRY = (
    "I must answer now.",
    "The time is up, so I answer now.",
    "OK, this is enough thinking.",
    (
        "Considering the limited time by the user, "
        "I have to give the solution based on the thinking directly now."
    ),
    "... thinking budget exceeded, let's answer now.",
)

Message = dict[str, Any]


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(autoescape=False)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment


_TEMPLATE = _environment().from_string(TEMPLATE)


def render(messages: list[Message], tools: list[Message] | None = None, *, thinking: bool = True) -> str:
    """Render the prompt for the next assistant turn as llama.cpp renders it."""
    text: str = _TEMPLATE.render(
        messages=messages, tools=tools, add_generation_prompt=True, enable_thinking=thinking
    )
    return text


@dataclass
class Document:
    """Tokens of one conversation; `learnt[i]` tells whether token i counts in the loss."""

    tokens: list[int] = field(default_factory=list)
    learnt: list[bool] = field(default_factory=list)

    def extend(self, tokens: list[int], *, learnt: bool) -> None:
        """Append `tokens`, all learnt or none."""
        self.tokens += tokens
        self.learnt += [learnt] * len(tokens)


def draw_problem(rng: random.Random) -> Problem:
    """Draw a task, small talk or an off-topic request."""
    draw = rng.random()
    return small_talk(rng) if draw < 0.10 else off_topic(rng) if draw < 0.15 else draw_task(rng)


def _add_turn(
    document: Document, rng: random.Random, tokenizer: Tokenizer, thinking: str, answer: str
) -> None:
    """Append a whole assistant turn: mostly as the model should write it, often with a thinking cut short."""
    thought = tokenizer.encode(f"<think>\n{thinking}\n")
    end = tokenizer.encode("</think>\n\n")
    draw = rng.random()
    if draw < 0.75:
        noted = rng.randrange(1, len(thought)) if draw < 0.03 else len(thought)
        document.extend(thought[:noted], learnt=True)
        if noted < len(thought):  # someone else's words inside the thinking must not derail it
            document.extend(tokenizer.encode(f" {filler(rng, rng.randint(1, 6))}\n"), learnt=False)
        document.extend(thought[noted:] + end, learnt=True)
    else:
        document.extend(thought[: rng.randint(1, len(thought))], learnt=False)
        hurry = f"\n\n{rng.choice((*_HURRY, filler(rng, 8)))}" if rng.random() < 0.3 else ""
        tag = tokenizer.encode(hurry + rng.choice(("\n</think>", "</think>")))
        document.extend(tag, learnt=False)
        document.extend(end[1:], learnt=rng.random() < 0.6)
    document.extend(tokenizer.encode(f"{answer}<|im_end|>"), learnt=True)


def _system(rng: random.Random) -> list[Message]:
    draw = rng.random()
    if draw < 0.33:
        return [{"role": "system", "content": rng.choice(_SYSTEM)}]
    if draw < 0.37:
        return [{"role": "system", "content": filler(rng, rng.randint(5, 20))}]
    if draw < 0.40:
        return [{"role": "system", "content": filler(rng, rng.randint(30, 90))}]
    return []


def _history(rng: random.Random) -> list[Message]:
    history: list[Message] = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        problem = draw_problem(rng)
        history += [
            {"role": "user", "content": problem.prompt},
            {"role": "assistant", "content": problem.answer},
        ]
    return history


def _tool_document(rng: random.Random, tokenizer: Tokenizer, before: list[Message]) -> Document:
    use = draw_tool_use(rng)
    tools = [tool.schema() for tool in use.tools]
    messages = [*before, {"role": "user", "content": use.prompt}]
    call = f"<tool_call>\n{json.dumps(use.call)}\n</tool_call>"
    document = Document()
    if rng.random() < 0.55:
        document.extend(tokenizer.encode(render(messages, tools)), learnt=False)
        _add_turn(document, rng, tokenizer, use.call_thinking, call)
        return document
    kept = {"reasoning_content": use.call_thinking} if rng.random() < 0.7 else {}
    messages.append({"role": "assistant", "content": "", "tool_calls": [{"function": use.call}], **kept})
    messages.append({"role": "tool", "content": use.result})
    document.extend(tokenizer.encode(render(messages, tools)), learnt=False)
    _add_turn(document, rng, tokenizer, use.result_thinking, use.answer)
    return document


def draw_document(rng: random.Random, tokenizer: Tokenizer) -> Document:
    """Draw one conversation: 18 % with a tool in use, 40 % with a system message, 15 % of several turns."""
    before = _system(rng) + (_history(rng) if rng.random() < 0.15 else [])
    if rng.random() < 0.18:
        return _tool_document(rng, tokenizer, before)
    problem = draw_problem(rng)
    tools = [tool.schema() for tool in draw_tools(rng)] if rng.random() < 0.04 else None
    messages = [*before, {"role": "user", "content": problem.prompt}]
    thinking = rng.random() >= 0.10
    document = Document()
    document.extend(tokenizer.encode(render(messages, tools, thinking=thinking)), learnt=False)
    if thinking:
        _add_turn(document, rng, tokenizer, problem.thinking, problem.answer)
    else:
        document.extend(tokenizer.encode(f"{problem.answer}<|im_end|>"), learnt=True)
    return document


def draw_texts(rng: random.Random, n_texts: int) -> Iterator[str]:
    """Yield whole conversations as text, for the vocabulary."""
    letters = Tokenizer([])
    for _ in range(n_texts):
        yield letters.decode(draw_document(rng, letters).tokens)
