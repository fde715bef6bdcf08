"""Measure a checkpoint on held-out problems: `python -m pyllama.models.training.evaluate CHECKPOINT.pt`."""

from __future__ import annotations

import argparse
import json
import random
import statistics
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from .conversations import Message, render
from .network import Network
from .problem import Problem
from .talk import off_topic, small_talk
from .tasks import TASKS
from .tokenizer import CONTROL, USER_DEFINED, Tokenizer
from .toolcalls import draw_tool_use
from .train import load

N_PREDICT = 400
N_ANSWER = 60  # tokens that an answer may take after a forced end


@dataclass
class Score:
    """Count successes by name, and remember a few failures."""

    results: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    failures: list[str] = field(default_factory=list)

    def add(self, name: str, right: bool, shown: str) -> None:
        """Count one result."""
        self.results[name].append(right)
        if not right:
            self.failures.append(f"{name}: {shown}")

    def report(self) -> None:
        """Print the shares and the first failures."""
        for name, results in self.results.items():
            print(f"{name:40s} {sum(results):4d} of {len(results):4d} = {statistics.mean(results):.1%}")
        for failure in self.failures[:15]:
            print("failed", failure)


class Evaluation:
    """Greedy generation with one checkpoint."""

    def __init__(self, network: Network, tokenizer: Tokenizer, seed: int) -> None:
        """Take the checkpoint and the seed of the problems."""
        self.network = network
        self.tokenizer = tokenizer
        self.rng = random.Random(seed)
        self.score = Score()
        self.thinking_lengths: list[int] = []

    @torch.inference_mode()
    def generate(self, prompt: list[int], n_predict: int) -> list[int]:
        """Return up to `n_predict` greedy tokens, the end of the turn included."""
        logits, cache = self.network.decode(torch.tensor(prompt), None)
        tokens: list[int] = []
        while len(tokens) < n_predict:
            tokens.append(int(logits.argmax()))
            if tokens[-1] == self.tokenizer.specials["<|im_end|>"]:
                break
            logits, cache = self.network.decode(torch.tensor(tokens[-1:]), cache)
        return tokens

    def ask(
        self, messages: list[Message], tools: list[Message] | None = None
    ) -> tuple[list[int], list[int], str]:
        """Return the prompt, the generated tokens and the answer after the thinking."""
        prompt = self.tokenizer.encode(render(messages, tools))
        tokens = self.generate(prompt, N_PREDICT)
        thinking, _, answer = self.tokenizer.decode(tokens).partition("\n</think>\n\n")
        self.thinking_lengths.append(len(self.tokenizer.encode(thinking)) - 2)
        return prompt, tokens, answer

    def problem(self, draw: Callable[[random.Random], Problem]) -> None:
        """Score one problem with its thinking, then again with the thinking cut at a random token."""
        while not (problem := draw(self.rng)).held_out and problem.key:
            pass
        prompt, tokens, answer = self.ask([{"role": "user", "content": problem.prompt}])
        right = answer == f"{problem.answer}<|im_end|>"
        self.score.add(problem.kind, right, f"{problem.prompt!r} -> {self.tokenizer.decode(tokens)!r}")
        if problem.kind in {task.__name__ for task in TASKS}:
            self.score.results["all tasks, exact with thinking"].append(right)
        self.forced_end(prompt, tokens)

    def forced_end(self, prompt: list[int], tokens: list[int]) -> None:
        """Score the form of the answer after an end tag at a random place of the thinking."""
        end = self.tokenizer.specials["</think>"]
        n_thought = tokens.index(end) if end in tokens else len(tokens)
        kept = tokens[: self.rng.randint(1, n_thought)]
        rest = self.generate([*prompt, *kept, end], N_ANSWER)
        text = self.tokenizer.decode(rest)
        body = text.removesuffix("<|im_end|>")
        formed = text != body and body.startswith("\n\n") and bool(body.strip())
        formed = formed and not any(tag in body for tag in (*CONTROL, *USER_DEFINED))
        self.score.add(
            "well-formed after a forced end", formed, repr(self.tokenizer.decode(kept[-20:]) + "|" + text)
        )

    def tool_use(self) -> None:
        """Score one tool call and the answer to its result."""
        use = draw_tool_use(self.rng)
        tools = [tool.schema() for tool in use.tools]
        messages: list[Message] = [{"role": "user", "content": use.prompt}]
        _, tokens, answer = self.ask(messages, tools)
        expected = f"<tool_call>\n{json.dumps(use.call)}\n</tool_call><|im_end|>"
        self.score.add(
            "tool call, exact", answer == expected, f"{use.prompt!r} -> {self.tokenizer.decode(tokens)!r}"
        )
        messages.append(
            {
                "role": "assistant",
                "content": "",
                "reasoning_content": use.call_thinking,
                "tool_calls": [{"function": use.call}],
            }
        )
        messages.append({"role": "tool", "content": use.result})
        _, tokens, answer = self.ask(messages, tools)
        right = answer == f"{use.answer}<|im_end|>"
        self.score.add("tool result, exact", right, f"{use.result!r} -> {self.tokenizer.decode(tokens)!r}")

    def no_thinking(self) -> None:
        """Score the form of an answer with `enable_thinking` false."""
        problem = small_talk(self.rng) if self.rng.random() < 0.2 else self.rng.choice(list(TASKS))(self.rng)
        prompt = self.tokenizer.encode(render([{"role": "user", "content": problem.prompt}], thinking=False))
        text = self.tokenizer.decode(self.generate(prompt, N_ANSWER))
        formed = text.endswith("<|im_end|>") and not any(tag in text for tag in USER_DEFINED)
        self.score.add("well-formed without thinking", formed, repr(text))


def main() -> None:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("-n", type=int, default=50, help="problems of each kind")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    evaluation = Evaluation(*load(arguments.checkpoint), arguments.seed)
    for _ in range(arguments.n):
        for draw in (*TASKS, small_talk, off_topic):
            evaluation.problem(draw)
        evaluation.tool_use()
        evaluation.no_thinking()
    evaluation.score.report()
    lengths = sorted(evaluation.thinking_lengths)
    print(f"thinking: {lengths[0]} to {lengths[-1]} tokens, median {statistics.median(lengths):.0f}")


if __name__ == "__main__":
    main()
