"""Reads lists of calls as JSON lines, makes them on fresh handles, and answers each list with one line.

Every call may fail with an error of pyllama's or Python's own kinds; anything else is answered by its name,
and a crash is seen by the parent as a missing answer. ``--random MODEL SEED N`` makes N calls that a seed
chooses.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyllama import Batch, Context, Model, PyllamaError, SamplerChain, samplers
from pyllama.models import demo_model_path

sys.path.insert(0, str(Path(__file__).parent))
import fuzz_context
import fuzz_samplers

try:
    import tiny_models
except ImportError:  # they are written with gguf
    tiny_models = None

EXPECTED = (PyllamaError, IndexError, TypeError, ValueError, OverflowError, OSError, MemoryError)


# Calls that get somewhere; the others are chosen less often.
USEFUL = [
    *["continue"] * 8,
    *["continue_one"] * 8,
    *["sample"] * 5,
    *["sampled", "sampled_token", "accept_in_graph", "graph_good", "graph_chain", "graph_off"] * 2,
    *["chain_good", "take_back", "save", "restore", "logits", "seq_rm"] * 2,
]
RANDOM_OPTIONS: list[dict[str, Any]] = [
    {},
    {"kv_unified": False},
    {"swa_full": False},
    {"flash_attn": False},
    {"attention_type": "non-causal"},
    {"n_outputs_max": 4},
    {"n_outputs_max_per_seq": 3},
    {"n_rs_seq": 3},
    # The first eight go with any of the others.
    *[{"embeddings": True, "pooling": pooling} for pooling in ("none", "last", "mean", "rank")],
    {"rope_scaling_type": "yarn", "rope_freq_scale": 0.25},
]


class Handles:
    """A context with its batch, chain and saved states."""

    def __init__(self, model: Model, folder: Path, options: dict[str, Any]) -> None:
        self.model = model
        self.context = Context(
            model, **{"n_ctx": 256, "n_batch": 64, "n_ubatch": 32, "n_seq_max": 3, "n_threads": 1, **options}
        )
        self.batch = Batch(80, 3)
        self.chain = SamplerChain([samplers.greedy()])
        self.state = b""
        self.whole_state = b""
        self.file = folder / "state.bin"
        self.adapter_file = folder / "adapter.gguf"

    def replace_chain(self, chain: SamplerChain) -> None:
        old, self.chain = self.chain, chain
        old.close()

    def close(self) -> None:
        self.chain.close()
        self.context.close()


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
    **fuzz_context.CALLS,
    "in_a_thread": in_a_thread,
}


def play(models: Models, options: dict[str, Any], calls: list[list[Any]]) -> str:
    try:
        handles = Handles(models[options.pop("model", "demo")], models.folder, options)
    except EXPECTED:
        return "ok"
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


class Models(dict[str, Model]):
    """The bundled model, and tiny ones of other kinds where gguf can write them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __missing__(self, name: str) -> Model:
        path = demo_model_path()
        if name != "demo":
            path = self.folder / f"{name}.gguf"
            tiny_models.WRITERS[name](path)
        self[name] = Model(path)
        return self[name]


def random_number(dice: random.Random) -> int:
    near = dice.randint(-2, 20)
    return dice.choice([near] * 6 + [dice.randint(-2, 300), 1 << 29, -(1 << 31)])


def random_game(dice: random.Random, n_calls: int) -> tuple[dict[str, Any], list[list[Any]]]:
    """Return options and calls."""
    names = [name for name in CALLS if not name.endswith(("_close", "close_context", "in_a_thread"))]
    calls = [
        [dice.choice(USEFUL if dice.random() < 0.5 else names), *(random_number(dice) for _ in range(3))]
        for _ in range(n_calls)
    ]
    return {**dice.choice(RANDOM_OPTIONS), **dice.choice(RANDOM_OPTIONS[:8])}, calls


def play_random(models: Models, name: str, seed: int, n_calls: int) -> str:
    dice = random.Random(seed)
    for _ in range(12):
        options, calls = random_game(dice, n_calls // 12)
        answer = play(models, {"model": name, **options}, calls)
        if answer != "ok":
            return answer
    return "ok"


def main() -> None:
    if "--names" in sys.argv:
        print(json.dumps([list(CALLS), list(tiny_models.WRITERS) if tiny_models else []]))
        return
    with tempfile.TemporaryDirectory() as folder:
        models = Models(Path(folder))
        if "--random" in sys.argv:
            name, seed, n_calls = sys.argv[2:]
            print(json.dumps(play_random(models, name, int(seed), int(n_calls))))
        else:
            for line in sys.stdin:
                options, calls = json.loads(line)
                print(json.dumps(play(models, options, calls)), flush=True)
        for model in models.values():
            model.close()


if __name__ == "__main__":
    main()
