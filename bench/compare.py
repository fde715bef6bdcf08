"""Run pyllama-server and llama-server by turns on the same loads, and print ratios.

Run as ``make bench`` or ``python -m bench.compare``. Times are compared within one run only: no figure of
another machine, or of another day, enters.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bench.measure import Measurement, measure
from bench.models import ensure_model
from bench.paths import DEMO_MODEL, OUT, PYLLAMA_SERVER, REFERENCE_SERVER
from bench.reference import build_number, build_reference
from bench.report import OURS, REFERENCE, disturbance, markdown, rows
from bench.sample import LoadError
from bench.scenarios import DEFAULT_GROUPS, GROUPS, Group, shortened
from bench.servers import ServerError, Settings


def model_path(name: str) -> Path:
    """Return a model's file: the bundled demo model, or a random one that is written when missing."""
    return DEMO_MODEL if name == "demo" else ensure_model(name)


def run_group(group: Group, commands: dict[str, list[str]], threads: int) -> list[Measurement]:
    """Start each server by turns, `rounds` times in each KV mode, and return all measurements."""
    measurements: list[Measurement] = []
    model = model_path(group.model)
    for round_number in range(1, group.rounds + 1):
        for unified in group.kv_modes:
            settings = Settings(model, group.parallel, group.context, unified, threads)
            for name, command in commands.items():
                started = time.perf_counter()
                measurement = measure(name, command, group, settings)
                measurements.append(measurement)
                _progress(measurement, round_number, group.rounds, time.perf_counter() - started)
    return measurements


def _progress(measurement: Measurement, number: int, rounds: int, seconds: float) -> None:
    rates = ", ".join(
        f"{name} {f['ttft_p50_ms']:.1f} ms" if name == "ttft" else f"{name} {f['tokens_per_s']:.1f}/s"
        for name, f in measurement.scenarios.items()
    )
    print(
        f"{measurement.group} {number}/{rounds} -t {measurement.threads} "
        f"{'-kvu' if measurement.unified else '-no-kvu'} {measurement.server}: "
        f"ready {measurement.ready_s:.2f} s{'; ' if rates else ''}{rates} [{seconds:.0f} s]",
        file=sys.stderr,
        flush=True,
    )


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "llama.cpp": f"b{build_number()}",
        "time": time.strftime("%Y-%m-%d %H:%M"),
    }


def write_json(measurements: Sequence[Measurement], path: Path) -> None:
    """Write every measurement, with the machine it was made on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {"machine": machine(), "measurements": [asdict(m) for m in measurements]}
    path.write_text(json.dumps(record, indent=1), encoding="utf-8")


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
    return parser.parse_args()


def main() -> int:
    """Run the comparison."""
    args = parse_args()
    # As Ctrl-C, so that the running server is stopped on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    commands = {OURS: [str(args.pyllama)], REFERENCE: [str(args.reference)]}
    if args.only:
        commands = {args.only: commands[args.only]}
    if REFERENCE in commands and not args.reference.is_file():
        if args.reference != REFERENCE_SERVER:
            print(f"no such file: {args.reference}", file=sys.stderr)
            return 1
        build_reference()
    if OURS in commands and not args.pyllama.is_file():
        print(f"no such file: {args.pyllama}; run `make` first", file=sys.stderr)
        return 1
    measurements: list[Measurement] = []
    try:
        for threads in args.threads:
            for name in args.scenario:
                group = shortened(GROUPS[name]) if args.quick else GROUPS[name]
                if args.rounds:
                    group = replace(group, rounds=args.rounds)
                measurements += run_group(group, commands, threads)
    except (LoadError, ServerError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        if measurements:
            write_json(measurements, args.json)
    for threads in args.threads:
        print(f"\n{machine()['cpu']}, -t {threads}, llama.cpp b{build_number()}\n")
        print(markdown(rows([m for m in measurements if m.threads == threads], args.details)))
    others = disturbance(measurements)
    if others > 0.1:
        print(f"\nNot a quiet machine: others used up to {others:.2f} cores.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
