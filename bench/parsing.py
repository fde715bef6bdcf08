"""Compare what a large request costs before it is computed, with llama-server: ``python -m bench.parsing``.

A chat of 100 messages and 20 tools: its JSON is read, the template is rendered, a grammar is made of the
tools' schemas, and the prompt is tokenized. Each server gets the same request again and again, so that the
prompt is in its cache; what counts is the request's time beyond the prompt and decode time that the server
itself tells. The servers take turns; each figure is the best of a round, and then the median of the rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

from bench.client import PATH, post
from bench.models import ensure_model
from bench.paths import PYLLAMA_SERVER, REFERENCE_SERVER, VENDORED_TREE
from bench.reference import build_reference
from bench.report import OURS, REFERENCE
from bench.servers import Settings, running
from pyllama.loadtest.words import random_words

TEMPLATE = VENDORED_TREE / "models" / "templates" / "Qwen-Qwen3-0.6B.jinja"
N_MESSAGES = 100
N_TOOLS = 20
COUNT_PATH = "/v1/chat/completions/input_tokens"


def large_request() -> dict[str, Any]:
    """Return the body: messages by turns, each of about 40 words, and tools of eight parameters."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": random_words(100, "system")}]
    for i in range(1, N_MESSAGES):
        role = "user" if i % 2 else "assistant"
        messages.append({"role": role, "content": random_words(40, f"message {i}")})
    tools = [
        {
            "type": "function",
            "function": {
                "name": f"tool_{i}",
                "description": random_words(20, f"tool {i}"),
                "parameters": {
                    "type": "object",
                    "properties": {
                        f"parameter_{k}": {"type": kind, "description": random_words(8, f"parameter {i} {k}")}
                        for k, kind in enumerate(["string", "integer", "number", "boolean"] * 2)
                    },
                    "required": ["parameter_0", "parameter_1"],
                },
            },
        }
        for i in range(N_TOOLS)
    ]
    return {"messages": messages, "tools": tools, "max_tokens": 1, "temperature": 0}


def overheads(command: Sequence[str], settings: Settings, log: str, repeats: int) -> tuple[float, float]:
    """Start a server; return the best milliseconds beyond its own time, and those of counting the tokens."""
    body = large_request()
    beyond, counting = [], []
    with running(command, settings, log) as server:
        post(server.port, PATH, body)
        for _ in range(repeats):
            begin = time.perf_counter()
            timings = post(server.port, PATH, body)["timings"]
            elapsed = (time.perf_counter() - begin) * 1e3
            beyond.append(elapsed - timings["prompt_ms"] - timings["predicted_ms"])
            begin = time.perf_counter()
            post(server.port, COUNT_PATH, body)
            counting.append((time.perf_counter() - begin) * 1e3)
    return min(beyond), min(counting)


def main() -> int:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3, help="starts of each server (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=20, help="requests per start (default: %(default)s)")
    arguments = parser.parse_args()
    build_reference()
    settings = Settings(ensure_model("small"), parallel=1, context=32768, template=TEMPLATE)
    commands = {OURS: [str(PYLLAMA_SERVER)], REFERENCE: [str(REFERENCE_SERVER), "--jinja"]}
    rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for number in range(arguments.rounds):
        for name, command in commands.items():
            rounds[name].append(overheads(command, settings, f"parsing-{name}-{number}", arguments.repeats))
    print(f"the request: {len(json.dumps(large_request()))} bytes, {N_MESSAGES} messages, {N_TOOLS} tools")
    print(f"| | unit | {OURS} | {REFERENCE} | ratio | goal |\n| --- | --- | ---: | ---: | ---: | ---: |")
    for column, (text, goal) in enumerate(
        (("the request beyond its own time", "≤ 2"), ("counting its tokens", ""))
    ):
        ours, theirs = (statistics.median(each[column] for each in rounds[name]) for name in commands)
        print(f"| {text} | ms | {ours:.1f} | {theirs:.1f} | {ours / theirs:.2f} | {goal} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
