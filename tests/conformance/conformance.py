"""Run llama-server's own test suite against pyllama-server and hold the result against expected.txt.

Run as ``make conformance``. The suite lies outside the repository: its folder has ``run.py``, which drives
any server that takes llama-server's flags, and ``baseline.json``, which lists the tests that llama-server
itself passes. Where it is not at hand, one line says so and nothing fails.

``expected.txt`` names every test of the baseline that does not pass, below its reason:

    The reason, on a line that ends with a colon:
      unit/test_router.py::test_router_props
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Verdict", "judge", "main", "read_expected", "table"]

EXPECTED = Path(__file__).with_name("expected.txt")
REPOSITORY = Path(__file__).resolve().parents[2]
# The tree that the server is built from holds the suite's files too.
SOURCES = REPOSITORY / "vendor" / "llama.cpp" / "src"


@dataclass(frozen=True)
class Verdict:
    """What differs from expected.txt. A line that is not true any more is told, and fails nothing."""

    regressions: tuple[str, ...]  # failed, and expected.txt does not name them
    stale: tuple[str, ...]  # named in expected.txt, and passed
    unknown: tuple[str, ...]  # named in expected.txt, and not in the baseline

    @property
    def passed(self) -> bool:
        """Whether every test passed that expected.txt does not name."""
        return not self.regressions


def read_expected(text: str) -> dict[str, str]:
    """Return the reason of each test that expected.txt names.

    Raises:
        ValueError: A line is neither a reason nor a test below one, or a test stands there twice.
    """
    reasons: dict[str, str] = {}
    reason = ""
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("  "):
            test = line.strip()
            if not reason or "::" not in test:
                raise ValueError(f"line {number}: a test needs a reason above it: {line!r}")
            if test in reasons:
                raise ValueError(f"line {number}: {test} stands here twice")
            reasons[test] = reason
        elif line.endswith(":"):
            reason = line[:-1]
        else:
            raise ValueError(
                f"line {number}: neither a reason (which ends with a colon) nor a test: {line!r}"
            )
    return reasons


def judge(results: Mapping[str, str], baseline: Iterable[str], expected: Iterable[str]) -> Verdict:
    """Compare the outcomes ("passed" or another word) of the tests that ran with what is expected."""
    known = set(baseline)
    named = set(expected)
    ran = known & results.keys()
    failed = {test for test in ran if results[test] != "passed"}
    return Verdict(
        regressions=tuple(sorted(failed - named)),
        stale=tuple(sorted((ran - failed) & named)),
        unknown=tuple(sorted(named - known)),
    )


def table(results: Mapping[str, str], baseline: Iterable[str]) -> str:
    """Return one line per test file: how many of the baseline's tests passed, of those that ran."""
    counts: dict[str, list[int]] = {}
    for test in sorted(set(baseline) & results.keys()):
        row = counts.setdefault(test.split("::")[0].removeprefix("unit/"), [0, 0])
        row[0] += results[test] == "passed"
        row[1] += 1
    rows = [
        *counts.items(),
        ("all", [sum(column) for column in zip(*counts.values(), strict=True)] or [0, 0]),
    ]
    return "\n".join(f"{name:<32}{passed:>4} of {total:>3}" for name, (passed, total) in rows)


def main(argv: list[str] | None = None) -> int:
    """Run the suite and return the exit code."""
    arguments = _arguments(argv)
    runner = arguments.suite / "run.py"
    if not runner.is_file():
        print(f"conformance: skipped, {runner} is not at hand (CONFORMANCE=DIR says where the suite is)")
        return 0
    expected = read_expected(EXPECTED.read_text())
    baseline = json.loads((arguments.suite / "baseline.json").read_text())
    arguments.work.mkdir(parents=True, exist_ok=True)
    results, reasons = _run(arguments, runner, baseline, "results")
    verdict = judge(results, baseline["passed"], expected)
    if verdict.regressions:
        # The suite has time limits of its own, which a busy machine can break.
        again, reasons_again = _run(
            arguments, runner, baseline | {"passed": list(verdict.regressions)}, "second-results"
        )
        results |= again
        reasons |= reasons_again
        verdict = judge(results, baseline["passed"], expected)
    print(table(results, baseline["passed"]))
    _report(verdict, reasons)
    return 0 if verdict.passed else 1


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="llama-server's own test suite against pyllama-server")
    parser.add_argument("--suite", type=Path, required=True, help="folder with run.py and baseline.json")
    parser.add_argument("--work", type=Path, required=True, help="folder for models, logs and results")
    parser.add_argument("--server", required=True, help="command of the server under test")
    parser.add_argument("--files", nargs="*", help="only these files, as in test_basic")
    return parser.parse_args(argv)


def _run(
    arguments: argparse.Namespace, runner: Path, baseline: Mapping[str, Any], name: str
) -> tuple[dict[str, str], dict[str, str]]:
    """Run the baseline's tests; return the outcome of each and why the failed ones failed."""
    baseline_file = arguments.work / f"{name}.baseline.json"
    baseline_file.write_text(json.dumps(baseline))
    output = arguments.work / f"{name}.json"
    output.unlink(missing_ok=True)
    command = [sys.executable, str(runner), "--server", arguments.server, "--work", str(arguments.work)]
    command += ["--baseline", str(baseline_file), "--results", str(output)]
    if (SOURCES / "tools" / "server" / "tests").is_dir():
        command += ["--suite", str(SOURCES)]
    if arguments.files:
        command += ["--files", *arguments.files]
    # Which tests passed is ours to print; the progress goes to stderr.
    subprocess.run(command, stdout=subprocess.DEVNULL, env=_environment(), check=False)
    if not output.is_file():
        raise SystemExit(f"conformance: {runner} ended without results")
    detail = json.loads(output.with_suffix(".detail.json").read_text())
    return json.loads(output.read_text()), detail["reasons"]


def _environment() -> dict[str, str]:
    """Keep what pip warns about the machine's package indexes out of the progress."""
    return {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def _report(verdict: Verdict, reasons: Mapping[str, str]) -> None:
    for test in verdict.regressions:
        print(f"FAILED {test}: {reasons.get(test, '')[:200]}")
    for test in verdict.stale:
        print(f"PASSED, so take it out of {EXPECTED.name}: {test}")
    for test in verdict.unknown:
        print(f"UNKNOWN to the baseline, so take it out of {EXPECTED.name}: {test}")


if __name__ == "__main__":
    sys.exit(main())
