"""``pyllama doctor``: finds what is wrong with an installation, and says what to do."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from pyllama.cli.info import cpu_library
from pyllama.doctor import Facts, Finding, examine, gather
from pyllama.version import package_version

__all__ = ["run"]


def run(args: list[str]) -> int:
    """Print the findings; return 1 where one is an error."""
    parser = argparse.ArgumentParser(prog="pyllama doctor", description=__doc__)
    parser.add_argument("-m", "--model", metavar="FILE", help="also look at this model")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, metavar="N", help="also see whether a server could listen there")
    parser.add_argument("--pid", type=int, metavar="N", help="look for a second ggml in this running process")
    parser.add_argument("--json", action="store_true")
    try:
        options = parser.parse_args(args)
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else 2
    try:
        facts = gather(model=options.model, host=options.host, port=options.port, pid=options.pid)
    except OSError as error:
        print(f"pyllama doctor: {error}", file=sys.stderr)
        return 1
    findings = examine(facts)
    if options.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        print(_headline(facts))
        for finding in findings:
            _show(finding)
        if not findings:
            print("nothing is wrong")
    return 1 if any(finding.level == "error" for finding in findings) else 0


def _headline(facts: Facts) -> str:
    info = facts.core.info
    if info is None:
        return f"pyllama {package_version()}, which cannot be loaded"
    devices = ", ".join(device["name"] for device in info["devices"])
    return (
        f"pyllama {package_version()}, llama.cpp {info['llama_cpp']}, {info['configuration']} build, "
        f"{cpu_library(info)}; devices: {devices or 'none'}"
    )


def _show(finding: Finding) -> None:
    print(f"{finding.level + ':':<9}{finding.what}")
    print(f"         {finding.do}")
