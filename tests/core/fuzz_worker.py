"""Reads lists of calls as JSON lines, makes them on fresh handles, and answers each list with one line.

Every call may fail with an error of pyllama's or Python's own kinds; anything else is answered by its name,
and a crash is seen by the parent as a missing answer.
"""

from __future__ import annotations

import json
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


def main() -> None:
    if "--names" in sys.argv:
        print(json.dumps([list(CALLS), list(tiny_models.WRITERS) if tiny_models else []]))
        return
    with tempfile.TemporaryDirectory() as folder:
        models = Models(Path(folder))
        for line in sys.stdin:
            options, calls = json.loads(line)
            print(json.dumps(play(models, options, calls)), flush=True)
        for model in models.values():
            model.close()


if __name__ == "__main__":
    main()
