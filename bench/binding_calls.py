"""What the low-level API costs on top of llama.cpp. Run as ``python -P bench/binding_calls.py``.

With ``-P`` the installed package is measured: the checkout has no compiled module.
``decode``: the time of a Python loop around ``Context.decode`` of one token, less the time that llama.cpp
itself measures from the start of its computation to its end (``Context.perf``). What is left is ours, and
llama.cpp's own preparation of the batch: an upper bound. ``add_sequence``: filling a batch from an array.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

from pyllama import Batch, Context, Model, build_info
from pyllama.models import demo_model_path

PROMPT_TOKENS = 4096


def microseconds(call: Callable[[], object], repeats: int, prepare: Callable[[], object]) -> list[float]:
    """Return the time of each call, ``prepare`` not counted."""
    times = []
    for _ in range(repeats):
        prepare()
        start = time.perf_counter_ns()
        call()
        times.append((time.perf_counter_ns() - start) / 1e3)
    return times


def summary(times: list[float]) -> dict[str, float]:
    """Return the median, and the tenth part that was fastest, in microseconds."""
    return {
        "median_us": round(statistics.median(times), 2),
        "p10_us": round(statistics.quantiles(times, n=10)[0], 2),
    }


def measure_fill(repeats: int) -> dict[str, float]:
    """Fill a batch with 4,096 tokens of a NumPy array."""
    batch = Batch(PROMPT_TOKENS)
    tokens = np.arange(PROMPT_TOKENS, dtype=np.int32)
    return summary(microseconds(lambda: batch.add_sequence(tokens, 0, 0), repeats, batch.clear))


def measure_decode(model: Model, tokens: int, rounds: int) -> dict[str, float]:
    """Decode single tokens, and return what a call takes beyond llama.cpp's own count."""
    beyond, whole = [], []
    with Context(model, n_ctx=tokens, n_threads=1) as context:
        batch = Batch(1)
        for _ in range(rounds):
            context.memory.clear(False)
            context.perf_reset()
            start = time.perf_counter()
            for pos in range(tokens):
                batch.clear()
                batch.add(5, pos, 0, True)
                context.decode(batch)
                context.synchronize()
            elapsed = (time.perf_counter() - start) * 1e6
            whole.append(elapsed / tokens)
            beyond.append((elapsed - context.perf().decode_ms * 1e3) / tokens)
    return {"token_us": round(min(whole), 2), "beyond_llama_cpp_us": round(min(beyond), 2)}


def main() -> int:
    """Print one JSON object of the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument(
        "--model", default=str(demo_model_path()), help="a GGUF file (default: the bundled model)"
    )
    parser.add_argument("--tokens", type=int, default=256, help="tokens of a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which the best counts")
    args = parser.parse_args()
    with Model(args.model, n_gpu_layers=0) as model:
        figures = {
            "model": model.desc,
            "llama_cpp": build_info()["llama_cpp"],
            f"add_sequence_{PROMPT_TOKENS}": measure_fill(2000),
            "decode": measure_decode(model, args.tokens, args.rounds),
        }
    json.dump(figures, sys.stdout, indent=2)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
