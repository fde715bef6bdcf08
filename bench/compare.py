"""Run pyllama-server and llama-server by turns on the same loads, and print ratios.

Run as ``make bench`` or ``python -m bench.compare``. Times are compared within one run only: no figure of
another machine, or of another day, enters.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from bench import records
from bench.client import LoadError
from bench.measure import Measurement, measure, measure_raw
from bench.models import ensure_model
from bench.paths import DEMO_MODEL, OUT, PAGE, PYLLAMA_SERVER, REFERENCE_BENCH, REFERENCE_SERVER
from bench.reference import build_number, build_reference
from bench.report import OURS, REFERENCE, disturbance, markdown, rows
from bench.scenarios import DEFAULT_GROUPS, GROUPS, Group, shortened
from bench.servers import ServerError, Settings

# Shown while it runs, of what a scenario has.
_TOLD = ("tokens_per_s", "ttft_p50_ms", "gap_max_ms", "finished", "tpot_p50_ms", "step_ms", "frame_p99_ms")


def model_path(name: str) -> Path:
    """Return a model's file: the bundled demo model, or a random one that is written when missing."""
    return DEMO_MODEL if name == "demo" else ensure_model(name)


def run_group(group: Group, commands: dict[str, list[str]], threads: int) -> Iterator[Measurement]:
    """Start each server by turns, `rounds` times in each KV mode, and yield each measurement."""
    model = model_path(group.model)
    for round_number in range(1, group.rounds + 1):
        for unified in group.kv_modes:
            settings = Settings(model, group.parallel, group.context, unified, threads)
            if group.raw is not None:
                started = time.perf_counter()
                raw = measure_raw(REFERENCE_BENCH, group, group.raw, settings)
                _progress(raw, round_number, group.rounds, time.perf_counter() - started)
                yield raw
            for name, command in commands.items():
                started = time.perf_counter()
                measurement = measure(name, command, group, settings)
                _progress(measurement, round_number, group.rounds, time.perf_counter() - started)
                yield measurement


def _progress(measurement: Measurement, number: int, rounds: int, seconds: float) -> None:
    shown = [f"ready {measurement.ready_s:.2f} s"]
    for name, figures in measurement.scenarios.items():
        told = (f"{key} {figures[key]:.4g}" for key in _TOLD if key in figures)
        shown.append(f"{name}: {', '.join(told)}")
    print(
        f"{measurement.group} {number}/{rounds} -t {measurement.threads} "
        f"{'-kvu' if measurement.unified else '-no-kvu'} {measurement.server}: "
        f"{'; '.join(shown)} [{seconds:.0f} s]",
        file=sys.stderr,
        flush=True,
    )


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--scenario",
        nargs="+",
        choices=GROUPS,
        default=DEFAULT_GROUPS,
        metavar="NAME",
        help=f"groups to run, of {', '.join(GROUPS)} (default: {' '.join(DEFAULT_GROUPS)})",
    )
    parser.add_argument("--quick", action="store_true", help="one round and a quarter of the tokens")
    parser.add_argument("--rounds", type=int, help="starts of each server per group")
    parser.add_argument("--threads", type=int, nargs="+", default=[2], help="-t of both, a table each")
    parser.add_argument("--details", action="store_true", help="more rows: TTFT, gaps and CPU of every load")
    parser.add_argument("--only", choices=(OURS, REFERENCE), help="run one server alone")
    parser.add_argument("--pyllama", type=Path, default=PYLLAMA_SERVER, help="our server's command")
    parser.add_argument("--reference", type=Path, default=REFERENCE_SERVER, help="llama-server's binary")
    parser.add_argument("--json", type=Path, default=OUT / "compare.json", help="where all figures go")
    parser.add_argument("--keep", action="store_true", help="keep that file's figures of other groups")
    parser.add_argument("--page", type=Path, default=PAGE, help="where the page with plots goes")
    parser.add_argument("--no-page", dest="page", action="store_const", const=None, help="write none")
    return parser.parse_args()


def main() -> int:
    """Run the comparison."""
    args = parse_args()
    # As Ctrl-C, so that the running server is stopped on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    commands = {OURS: [str(args.pyllama)], REFERENCE: [str(args.reference)]}
    if args.only:
        commands = {args.only: commands[args.only]}
    groups = [shortened(GROUPS[name]) if args.quick else GROUPS[name] for name in args.scenario]
    if args.rounds:
        groups = [replace(group, rounds=args.rounds) for group in groups]
    if REFERENCE in commands and not args.reference.is_file():
        if args.reference != REFERENCE_SERVER:
            print(f"no such file: {args.reference}", file=sys.stderr)
            return 1
        build_reference()
    if any(group.raw is not None for group in groups) and not REFERENCE_BENCH.is_file():
        build_reference(target=REFERENCE_BENCH.name)
    if OURS in commands and not args.pyllama.is_file():
        print(f"no such file: {args.pyllama}; run `make` first", file=sys.stderr)
        return 1
    try:
        measurements = kept(args.json, args.scenario) if args.keep and args.json.is_file() else []
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    code = 0
    try:
        for threads in args.threads:
            for group in groups:
                code = max(code, _run(group, commands, threads, measurements, args.json))
    except KeyboardInterrupt:
        code = 130
    _tell(measurements, args)
    return code


def kept(path: Path, again: Sequence[str]) -> list[Measurement]:
    """Return the measurements of a file but those of groups that are measured again.

    Raises:
        ValueError: They are of another machine, or the file of another form.
    """
    machine, measurements = records.read(path)
    if machine.get("cpu") != records.machine()["cpu"]:
        raise ValueError(f"{path} is of another machine: {machine.get('cpu')}")
    return [m for m in measurements if m.group not in again]


def _run(
    group: Group,
    commands: dict[str, list[str]],
    threads: int,
    measurements: list[Measurement],
    path: Path,
) -> int:
    """Run a group; what it gives is written at once. One that fails is told, and leaves the others alone."""
    try:
        for measurement in run_group(group, commands, threads):
            measurements.append(measurement)
            records.write(measurements, path)
    except (LoadError, ServerError, OSError) as error:
        print(f"{group.name} failed: {error}", file=sys.stderr)
        return 1
    return 0


def _tell(measurements: list[Measurement], args: argparse.Namespace) -> None:
    for threads in args.threads:
        print(f"\n{records.machine()['cpu']}, -t {threads}, llama.cpp b{build_number()}\n")
        print(markdown(rows([m for m in measurements if m.threads == threads], args.details)))
    others = disturbance(measurements)
    if others > 0.1:
        print(f"\nNot a quiet machine: others used up to {others:.2f} cores.", file=sys.stderr)
    if args.page is not None and measurements:
        try:
            from bench.page import write_page
        except ModuleNotFoundError as error:
            print(f"no page without {error.name}: pip install --group bench", file=sys.stderr)
            return
        print(f"\n{write_page(*records.read(args.json), args.page)}")


if __name__ == "__main__":
    sys.exit(main())
