"""Compare how a running generation is steered, with llama-server, by turns: ``python -m bench.steering``.

Both servers get the same random-weights model and a chat template that opens the reasoning, so that each
answer thinks until it is told to stop.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from bench.client import PATH, LoadError, post
from bench.live import LiveStream
from bench.models import SHAPES, ensure_model
from bench.paths import PYLLAMA_SERVER, REFERENCE_SERVER, ROOT
from bench.reference import build_reference
from bench.report import OURS, REFERENCE
from bench.servers import ServerError, Settings, running
from pyllama.loadtest.words import prompt

TEMPLATE = ROOT / "bench" / "thinking.jinja"
N_NEIGHBOUR = 4000  # tokens of the neighbour's prompt
N_MESSAGE = 32  # tokens of the budget message
N_THOUGHTS = 16  # before the budget is used up


@dataclass(slots=True)
class Turn:
    """What one start of one server gave; seconds but for the rates."""

    control: float  # from sending the control to the first token of the answer, under a neighbour's prefill
    reply: float  # to the control's reply
    message: float  # from the last thought to the first token of the answer, over the budget message
    single: float  # between two tokens
    plain_rate: float  # tokens/s of a single stream
    opted_rate: float  # the same with reasoning_control


def chat(words: int, seed: int, **fields: object) -> dict[str, object]:
    """Return a request; no two seeds share words."""
    text = prompt(words, 0, seed, 0)
    return {
        "messages": [{"role": "user", "content": text}],
        "ignore_eos": True,
        "temperature": 0,
        "cache_prompt": False,
        **fields,
    }


def control_under_prefill(port: int, seed: int, delay: float) -> tuple[float, float]:
    """End a stream's reasoning beside a neighbour's prefill; return the times to answer and reply."""
    with LiveStream(port, chat(16, seed, max_tokens=600, reasoning_control=True)) as stream:
        stream.wait_for(reasoning=8)
        with LiveStream(port, chat(N_NEIGHBOUR, seed + 1, max_tokens=1)):
            time.sleep(delay)  # the neighbour's prefill is under way
            sent = time.perf_counter()
            reply = post(port, PATH + "/control", {"id": stream.id, "action": "reasoning_end"})
            replied = time.perf_counter()
            if not reply.get("success"):
                raise LoadError(f"the control was refused: {reply}")
            stream.wait_for(content=1)
            return stream.content[0] - sent, replied - sent


def budget_message(port: int, seed: int) -> tuple[float, float]:
    """Let a budget end the reasoning with a message; return that gap, and the one between two tokens."""
    text = " ".join(["time"] * N_MESSAGE)
    body = chat(
        16,
        seed,
        max_tokens=160,
        reasoning_budget_tokens=N_THOUGHTS,
        reasoning_budget_message=text,
    )
    with LiveStream(port, body) as stream:
        stream.wait_for(content=64, finished=False)
        answer = stream.content[0]
        # The message itself is told as reasoning: the thoughts are the first events.
        gap = answer - stream.reasoning[min(N_THOUGHTS, len(stream.reasoning)) - 1]
        steps = [b - a for a, b in zip(stream.content, stream.content[1:], strict=False)]
        return gap, statistics.median(steps)


def rate(port: int, seed: int, opted: bool) -> float:
    """Return the tokens/s of a single stream, from its first token to its last."""
    with LiveStream(port, chat(16, seed, max_tokens=128, reasoning_control=opted)) as stream:
        stream.wait_for(finished=True)
        times = stream.reasoning + stream.content
        return (len(times) - 1) / (times[-1] - times[0])


def measure(command: str, settings: Settings, name: str, seed: int, repeats: int, delay: float) -> Turn:
    """Start a server and take the median of each figure over `repeats`."""

    def median(figure: Callable[[int], float]) -> float:
        return statistics.median(figure(seed + 10 * i) for i in range(repeats))

    with running([command], settings, f"{name}-steering") as server:
        rate(server.port, seed + 9, False)
        controls = [control_under_prefill(server.port, seed + 10 * i, delay) for i in range(repeats)]
        messages = [budget_message(server.port, seed + 10 * i + 2) for i in range(repeats)]
        return Turn(
            control=statistics.median(c[0] for c in controls),
            reply=statistics.median(c[1] for c in controls),
            message=statistics.median(m[0] for m in messages),
            single=statistics.median(m[1] for m in messages),
            plain_rate=median(lambda s: rate(server.port, s + 3, False)),
            opted_rate=median(lambda s: rate(server.port, s + 3, True)),
        )


def report(turns: dict[str, list[Turn]]) -> str:
    """Return the table: medians over the turns, and the ratios."""
    ours, theirs = turns[OURS], turns[REFERENCE]

    def middle(of: list[Turn], figure: Callable[[Turn], float]) -> float:
        return statistics.median(figure(turn) for turn in of)

    def row(what: str, unit: str, figure: Callable[[Turn], float], goal: str) -> str:
        a, b = middle(ours, figure), middle(theirs, figure)
        return f"| {what} | {unit} | {a:.3g} | {b:.3g} | {a / b:.2f} | {goal} |"

    return "\n".join(
        (
            "| | unit | pyllama | llama-server | ratio | goal |",
            "| --- | --- | ---: | ---: | ---: | ---: |",
            row(
                f"control to answer, beside a prefill of {N_NEIGHBOUR} tokens",
                "ms",
                lambda t: t.control * 1e3,
                "≤ 0.3",
            ),
            row("control to reply, the same", "ms", lambda t: t.reply * 1e3, ""),
            row(f"budget message of {N_MESSAGE} tokens", "ms", lambda t: t.message * 1e3, ""),
            row(
                "the same over as many single steps",
                "",
                lambda t: t.message / (N_MESSAGE * t.single),
                "ours ≤ 0.35",
            ),
            row("tokens/s opted in over not", "", lambda t: t.opted_rate / t.plain_rate, "ours ≥ 0.99"),
        )
    )


def main() -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=SHAPES, default="medium")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--delay", type=float, default=0.2, help="seconds from the neighbour to the control")
    args = parser.parse_args()
    if not REFERENCE_SERVER.is_file():
        build_reference()
    settings = Settings(ensure_model(args.model), parallel=4, context=16384, unified=True, template=TEMPLATE)
    commands = {OURS: str(PYLLAMA_SERVER), REFERENCE: str(REFERENCE_SERVER)}
    turns: dict[str, list[Turn]] = {name: [] for name in commands}
    try:
        for number in range(args.rounds):
            for name, command in commands.items():
                turn = measure(command, settings, name, 1000 * number + 1, args.repeats, args.delay)
                turns[name].append(turn)
                print(f"{number + 1}/{args.rounds} {name}: {turn}", file=sys.stderr, flush=True)
    except (LoadError, ServerError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(report(turns))
    return 0


if __name__ == "__main__":
    sys.exit(main())
