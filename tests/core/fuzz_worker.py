"""Reads lists of calls as JSON lines, makes them on fresh handles, and answers each list with one line.

Every call may fail with an error of pyllama's or Python's own kinds; anything else is answered by its name,
and a crash is seen by the parent as a missing answer.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from pyllama import Batch, Context, Model, PyllamaError, SamplerChain, samplers
from pyllama.models import demo_model_path

EXPECTED = (PyllamaError, IndexError, TypeError, ValueError, OverflowError)


class Handles:
    """A context with its batch, chain and saved state, and the calls on them by name."""

    def __init__(self, model: Model, options: dict[str, Any]) -> None:
        self.model = model
        self.context = Context(
            model, **{"n_ctx": 256, "n_batch": 64, "n_ubatch": 32, "n_seq_max": 3, "n_threads": 1, **options}
        )
        self.batch = Batch(80, 3)
        self.chain = self.make_chain("greedy")
        self.state = b""

    def make_chain(self, kind: str) -> SamplerChain:
        vocab = self.model.vocab
        recipes = {
            "greedy": [samplers.greedy()],
            "dist": [samplers.top_k(5), samplers.temp(0.7), samplers.dist(1)],
            "grammar": [
                samplers.grammar(vocab, 'root ::= [a-z]{1,4} "."'),
                samplers.top_p(0.9),
                samplers.dist(1),
            ],
            "adaptive": [samplers.penalties(8, 1.2), samplers.adaptive_p(0.4, seed=1)],
        }
        return SamplerChain(recipes[kind])

    def call(self, name: str, a: int, b: int, c: int) -> None:
        context, batch, memory = self.context, self.batch, self.context.memory
        if name == "add":
            batch.add(a, b, [c], logits=True)
        elif name == "add_two":
            batch.add(a, b, [c, 1], logits=False)
        elif name == "add_sequence":
            batch.add_sequence([a] * (abs(b) % 90), max(c, 0), abs(a) % 4, ("last", "all", "none")[b % 3])
        elif name == "continue":
            seq_id = abs(a) % 3
            batch.clear()
            batch.add_sequence([5] * (1 + abs(b) % 70), memory.seq_pos_max(seq_id) + 1, seq_id, "all")
            context.decode(batch)
        elif name == "clear_batch":
            batch.clear()
        elif name == "decode":
            context.decode(batch)
        elif name == "encode":
            context.encode(batch)
        elif name == "logits":
            context.logits(a)
        elif name == "view":
            with context.logits_view(a) as view:
                view[b] = float(c)
        elif name == "embeddings":
            context.embeddings(a)
            context.embeddings_seq(b)
        elif name == "seq_rm":
            memory.seq_rm(a, b, c)
        elif name == "seq_cp":
            memory.seq_cp(a, b, c)
        elif name == "seq_keep":
            memory.seq_keep(a)
        elif name == "seq_add":
            memory.seq_add(a, b, -1, c)
        elif name == "seq_div":
            memory.seq_div(a, -1, b, c)
        elif name == "clear":
            memory.clear(bool(a % 2))
        elif name == "save":
            self.state = context.state_seq_get(a)
        elif name == "restore":
            context.state_seq_set(a, self.state)
        elif name == "restore_garbage":
            garbage = bytearray(self.state)
            garbage[b] ^= 1 + c % 255
            context.state_seq_set(a, garbage)
        elif name == "sample":
            self.chain.sample(context, a)
        elif name == "accept":
            self.chain.accept(a)
        elif name == "reset":
            self.chain.reset()
        elif name == "clone":
            clone, old = self.chain.clone(), self.chain
            self.chain = clone
            old.close()
        elif name == "close_context":
            context.close()
        else:
            old = self.chain
            self.chain = self.make_chain(("greedy", "dist", "grammar", "adaptive")[a % 4])
            old.close()

    def close(self) -> None:
        self.chain.close()
        self.context.close()


def play(model: Model, options: dict[str, Any], calls: list[list[Any]]) -> str:
    handles = Handles(model, options)
    try:
        for name, a, b, c in calls:
            try:
                handles.call(name, a, b, c)
            except EXPECTED:
                continue
            except BaseException as error:
                return f"{name}({a}, {b}, {c}) raised {error!r}"
        return "ok"
    finally:
        handles.close()


def main() -> None:
    with Model(demo_model_path()) as model:
        for line in sys.stdin:
            options, calls = json.loads(line)
            print(json.dumps(play(model, options, calls)), flush=True)


if __name__ == "__main__":
    main()
