"""``pyllama demo``: a model that is thinking is told to answer."""

from __future__ import annotations

import asyncio
import sys
from typing import Final

from pyllama.answer import ControlResult, Delta
from pyllama.cli.session import guarded
from pyllama.cli.terminal import AnswerWriter, can_move_cursor, dim
from pyllama.engine import Engine
from pyllama.stream import Stream

__all__ = ["run"]

_QUESTION: Final = "How many times does the letter r occur in strawberry?"
# Thinking tokens after which the control is sent. Left alone, the model takes twice as many.
_N_THOUGHT: Final = 90
# Characters that a terminal shows per second: about as fast as one reads.
_PACE: Final = 35


def run(args: list[str]) -> int:
    """Show one answer whose reasoning is ended while it runs; return the exit code."""
    if args:
        print("usage: pyllama demo", file=sys.stderr)
        return 2

    def show() -> int:
        asyncio.run(_demo())
        return 0

    return guarded("demo", show)


async def _demo() -> None:
    messages = [{"role": "user", "content": _QUESTION}]
    async with Engine(n_ctx=1024, n_parallel=1, n_threads=1) as engine:
        print(f"> {_QUESTION}\n", flush=True)
        alone = await (await engine.chat(messages, temperature=0)).result()
        fields = {"temperature": 0, "logprobs": True, "reasoning_control": True}
        async with await engine.chat(messages, **fields) as stream:
            deltas: asyncio.Queue[Delta | None] = asyncio.Queue()
            reading = asyncio.create_task(_read(stream, deltas))
            n_thought = await _show(deltas)
            result = await reading
        if result is not None and not result.success:
            print(f"\n[reasoning_end: {result.message}]", flush=True)
        left_alone = f"Left alone, it takes {alone.usage.reasoning_tokens}: {alone.content}"
        print("\n" + dim(f"It thought for {n_thought} tokens. {left_alone}", sys.stdout), flush=True)


async def _read(stream: Stream, deltas: asyncio.Queue[Delta | None]) -> ControlResult | None:
    """Read as fast as the model writes; return what the control did that ends the thought."""
    result = None
    n_tokens = 0
    try:
        async for delta in stream:
            deltas.put_nowait(delta)
            before, n_tokens = n_tokens, n_tokens + len(delta.logprobs)
            if before < _N_THOUGHT <= n_tokens:
                result = await stream.control("reasoning_end")
    finally:
        deltas.put_nowait(None)
    return result


async def _show(deltas: asyncio.Queue[Delta | None]) -> int:
    """Show what was read, as fast as one reads; return the number of thinking tokens."""
    paced = can_move_cursor(sys.stdout)
    writer = AnswerWriter(sys.stdout)
    n_thought = 0
    while (delta := await deltas.get()) is not None:
        if delta.control is not None and delta.control.applied:
            writer.end()
            print(
                f"\n[{delta.control.action}: applied at token {delta.control.position}]", end="", flush=True
            )
        for piece in _characters(delta) if paced else [delta]:
            writer.write(piece)
            if paced:
                await asyncio.sleep(1 / _PACE)
        if delta.usage is not None:
            n_thought = delta.usage.reasoning_tokens
    writer.end()
    return n_thought


def _characters(delta: Delta) -> list[Delta]:
    return [Delta(reasoning=char) for char in delta.reasoning] + [
        Delta(content=char) for char in delta.content
    ]
