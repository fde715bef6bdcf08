"""Compare decode loops in Python with llama-bench, on the same model, by turns.

Run as ``python -m bench.binding``. llama-bench is built from the vendored tree where it is missing. Other
bindings are measured where a Python that has them is named: ``--other cyllama=/path/to/python``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.models import SHAPES, ensure_model
from bench.paths import DEMO_MODEL, OUT, REFERENCE_BENCH
from bench.reference import build_reference

LOOPS = Path(__file__).with_name("decode_loops.py")
OURS = "pyllama"
REFERENCE = "llama-bench"
GOAL = 0.99

Result = dict[str, Any]


def reference_command(bench: Path, model: Path, args: argparse.Namespace) -> list[str]:
    """Return llama-bench's command line for one prompt and one generation."""
    command = [str(bench), "-m", str(model), "-t", str(args.threads), "-p", str(args.n_prompt)]
    return [*command, "-n", str(args.n_gen), "-r", "1", "-o", "json"]


def loop_command(name: str, python: str, model: Path, args: argparse.Namespace) -> list[str]:
    """Return the command line of a binding's decode loop."""
    command = [python, str(LOOPS), name, "--model", str(model), "--threads", str(args.threads)]
    return [*command, "--n-prompt", str(args.n_prompt), "--n-gen", str(args.n_gen)]


def parse_reference(output: str) -> Result:
    """Read llama-bench's JSON: one record for the prompt, one for the generation."""
    result: Result = {}
    for record in json.loads(output):
        result["pp" if record["n_gen"] == 0 else "tg"] = record["avg_ts"]
        result["version"] = f"b{record['build_number']}"
    return result


def run(command: Sequence[str], name: str) -> Result:
    """Run one measurement in a process of its own."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{name} failed:\n{done.stderr[-2000:]}")
    output = done.stdout
    return parse_reference(output) if name == REFERENCE else json.loads(output.splitlines()[-1])


def expected_sampled(tg: float, sample_us: float) -> float:
    """Return the tokens/s of a loop that decodes like llama-bench and samples for `sample_us` a token."""
    return 1 / (1 / tg + sample_us / 1e6)


def ratios(rounds: Sequence[Mapping[str, Result]], name: str) -> dict[str, float]:
    """Return a binding's tokens/s over llama-bench's, the median of each round's own ratio.

    `sampled` is held against llama-bench plus the time that our chain took in the same round.
    """
    result: dict[str, float] = {}
    for figure in ("pp", "tg"):
        result[figure] = statistics.median(turn[name][figure] / turn[REFERENCE][figure] for turn in rounds)
    result["sampled"] = statistics.median(
        turn[name]["sampled"] / expected_sampled(turn[REFERENCE]["tg"], turn[OURS]["sample_us"])
        for turn in rounds
    )
    return result


def table(rounds: Sequence[Mapping[str, Result]], title: str) -> str:
    """Return a Markdown table of medians and ratios."""
    names = list(rounds[0])
    lines = [
        f"| {title} | llama.cpp / version | pp tokens/s | tg tokens/s | with samplers | pp ratio | tg ratio "
        "| sampled ratio |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in names:
        own = [turn[name] for turn in rounds]
        cells = [name, str(own[0].get("version", ""))]
        for figure in ("pp", "tg", "sampled"):
            values = [result[figure] for result in own if figure in result]
            cells.append(f"{statistics.median(values):.1f}" if values else "")
        if name != REFERENCE:
            cells += [f"{value:.3f}" for value in ratios(rounds, name).values()]
        else:
            cells += ["", "", ""]
        lines.append("| " + " | ".join(cells) + " |")
    sample_us = statistics.median(turn[OURS]["sample_us"] for turn in rounds)
    return "\n".join(lines) + f"\n\nOur samplers: {sample_us:.1f} µs a token. Goal of each ratio: {GOAL}."


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [*SHAPES, "demo"]
    parser.add_argument(
        "--models",
        nargs="+",
        choices=names,
        default=["qwen3-0.6b", "small"],
        metavar="NAME",
        help=", ".join(names),
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--n-prompt", type=int, default=512)
    parser.add_argument("--n-gen", type=int, default=128)
    parser.add_argument(
        "--other",
        action="append",
        default=[],
        metavar="NAME=PYTHON",
        help="a binding (cyllama, llama-cpp-python) and the Python that has it",
    )
    parser.add_argument("--json", type=Path, default=OUT / "binding.json", help="where all figures go")
    return parser.parse_args()


def main() -> int:
    """Run the comparison."""
    args = parse_args()
    pythons = {OURS: sys.executable} | dict(other.split("=", 1) for other in args.other)
    bench = build_reference(target=REFERENCE) if not REFERENCE_BENCH.is_file() else REFERENCE_BENCH
    record: dict[str, list[dict[str, Result]]] = {}
    for model_name in args.models:
        model = DEMO_MODEL if model_name == "demo" else ensure_model(model_name)
        commands = {REFERENCE: reference_command(bench, model, args)}
        commands |= {name: loop_command(name, python, model, args) for name, python in pythons.items()}
        rounds: list[dict[str, Result]] = []
        for number in range(args.rounds):
            # Whoever comes first finds another machine than whoever comes last.
            order = list(commands) if number % 2 == 0 else list(reversed(commands))
            turn = {name: run(commands[name], name) for name in order}
            rounds.append({name: turn[name] for name in commands})
            print(f"{model_name}, round {number + 1} of {args.rounds}", file=sys.stderr, flush=True)
        record[model_name] = rounds
        print(table(rounds, f"{model_name}, -t {args.threads}"), "\n", flush=True)
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(record, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
