"""Reads lists of calls as JSON lines, makes them on fresh handles, and answers each list with one line.

Every call may fail with an error of pyllama's or Python's own kinds; anything else is answered by its name,
and a crash is seen by the parent as a missing answer.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyllama import Batch, Context, Model, PyllamaError, SamplerChain, samplers
from pyllama.models import demo_model_path

sys.path.insert(0, str(Path(__file__).parent))
import fuzz_samplers

EXPECTED = (PyllamaError, IndexError, TypeError, ValueError, OverflowError)


class Handles:
    """A context with its batch, chain and saved state."""

    def __init__(self, model: Model, options: dict[str, Any]) -> None:
        self.model = model
        self.context = Context(
            model, **{"n_ctx": 256, "n_batch": 64, "n_ubatch": 32, "n_seq_max": 3, "n_threads": 1, **options}
        )
        self.batch = Batch(80, 3)
        self.chain = SamplerChain([samplers.greedy()])
        self.state = b""

    def replace_chain(self, chain: SamplerChain) -> None:
        old, self.chain = self.chain, chain
        old.close()

    def close(self) -> None:
        self.chain.close()
        self.context.close()


def continue_sequence(handles: Handles, a: int, b: int, c: int) -> None:
    context, batch, seq_id = handles.context, handles.batch, abs(a) % 3
    batch.clear()
    batch.add_sequence([5] * (1 + abs(b) % 70), context.memory.seq_pos_max(seq_id) + 1, seq_id, "all")
    context.decode(batch)


def add_sequence(handles: Handles, a: int, b: int, c: int) -> None:
    handles.batch.add_sequence([a] * (abs(b) % 90), max(c, 0), abs(a) % 4, ("last", "all", "none")[b % 3])


def view(handles: Handles, a: int, b: int, c: int) -> None:
    with handles.context.logits_view(a) as logits:
        logits[b] = float(c)


def save(handles: Handles, a: int, b: int, c: int) -> None:
    handles.state = handles.context.state_seq_get(a)


def restore_garbage(handles: Handles, a: int, b: int, c: int) -> None:
    garbage = bytearray(handles.state)
    garbage[b] ^= 1 + c % 255
    handles.context.state_seq_set(a, garbage)


def in_a_thread(handles: Handles, a: int, b: int, c: int) -> None:
    """A call from a thread that the context does not belong to."""
    names = [name for name in CALLS if name != "in_a_thread"]
    outcome: list[BaseException] = []

    def run() -> None:
        try:
            CALLS[names[a % len(names)]](handles, b, c, a)
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if outcome:
        raise outcome[0]


CALLS: dict[str, Callable[[Handles, int, int, int], object]] = {
    **fuzz_samplers.CALLS,
    "add": lambda handles, a, b, c: handles.batch.add(a, b, [c], logits=True),
    "add_two": lambda handles, a, b, c: handles.batch.add(a, b, [c, 1], logits=False),
    "add_sequence": add_sequence,
    "continue": continue_sequence,
    "clear_batch": lambda handles, a, b, c: handles.batch.clear(),
    "decode": lambda handles, a, b, c: handles.context.decode(handles.batch),
    "encode": lambda handles, a, b, c: handles.context.encode(handles.batch),
    "logits": lambda handles, a, b, c: handles.context.logits(a),
    "view": view,
    "embeddings": lambda handles, a, b, c: handles.context.embeddings(a),
    "embeddings_seq": lambda handles, a, b, c: handles.context.embeddings_seq(a),
    "seq_rm": lambda handles, a, b, c: handles.context.memory.seq_rm(a, b, c),
    "seq_cp": lambda handles, a, b, c: handles.context.memory.seq_cp(a, b, c),
    "seq_keep": lambda handles, a, b, c: handles.context.memory.seq_keep(a),
    "seq_add": lambda handles, a, b, c: handles.context.memory.seq_add(a, b, -1, c),
    "seq_div": lambda handles, a, b, c: handles.context.memory.seq_div(a, -1, b, c),
    "clear": lambda handles, a, b, c: handles.context.memory.clear(bool(a % 2)),
    "save": save,
    "restore": lambda handles, a, b, c: handles.context.state_seq_set(a, handles.state),
    "restore_garbage": restore_garbage,
    "close_context": lambda handles, a, b, c: handles.context.close(),
    "in_a_thread": in_a_thread,
}


def play(model: Model, options: dict[str, Any], calls: list[list[Any]]) -> str:
    handles = Handles(model, options)
    try:
        for name, a, b, c in calls:
            try:
                CALLS[name](handles, a, b, c)
            except EXPECTED:
                continue
            except BaseException as error:
                return f"{name}({a}, {b}, {c}) raised {error!r}"
        return "ok"
    finally:
        handles.close()


def main() -> None:
    if "--names" in sys.argv:
        print(json.dumps(list(CALLS)))
        return
    with Model(demo_model_path()) as model:
        for line in sys.stdin:
            options, calls = json.loads(line)
            print(json.dumps(play(model, options, calls)), flush=True)


if __name__ == "__main__":
    main()
