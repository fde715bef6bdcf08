"""``pyllama bench``: puts a load on any server of OpenAI's chat completions, and says how it did."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

from pyllama.cli.pipes import drop_output
from pyllama.cli.terminal import can_move_cursor, printable
from pyllama.loadtest import (
    Ask,
    Limits,
    Load,
    Objectives,
    Run,
    Sample,
    Target,
    TargetError,
    read_prompts,
    record,
    text,
)

__all__ = ["run"]

_KEY = "LLAMA_API_KEY"
_REQUESTS_OF_A_USER = 10
_DURATION_S = 30.0
_INTERRUPTED = 130

_EPILOG = f"""\
Latencies count from when a request was due: with --rate from its place in the schedule.
Exit codes: 0 some request was answered, 1 none was, 2 wrong use, 130 Ctrl-C (with what there is by then).
The key may also come from {_KEY}.
"""


def run(args: list[str]) -> int:
    """Run a load; return the exit code."""
    try:
        return _run(args)
    except SystemExit as exc:  # argparse: help, or wrong use
        return exc.code if isinstance(exc.code, int) else 2
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        return drop_output()
    except (TargetError, OSError) as exc:
        print(f"pyllama bench: {printable(str(exc))}", file=sys.stderr)
        return 1


def _run(args: list[str]) -> int:
    parser = _parser()
    options = parser.parse_args(args)
    try:
        target = Target.parse(options.url, options.insecure)
        load = _load(options)
        objectives = Objectives.parse(options.slo) if options.slo else Objectives()
        api_key = _api_key(options)
    except (ValueError, OSError) as exc:
        parser.error(printable(str(exc)))
    limits = Limits(options.connect_timeout, options.stall_timeout, options.timeout)
    with ExitStack() as stack:
        out: TextIO | None = sys.stdout if options.json == "-" else None
        if options.json and out is None:
            # Before the load: minutes of it must not be lost to a name that cannot be written.
            out = stack.enter_context(open(options.json, "w", encoding="utf-8"))
        return _measure(Run(target, load, limits, api_key, _progress()), target.url, objectives, out)


def _measure(running: Run, url: str, objectives: Objectives, out: TextIO | None) -> int:
    code = 0
    try:
        running.run()
    except KeyboardInterrupt:
        code = _INTERRUPTED
    finally:
        if _progress() is not None:
            sys.stderr.write("\r\x1b[K")
    if out is not sys.stdout:
        print(printable(text(running, url, objectives)))
    if out is not None:
        json.dump(record(running, url, objectives), out, indent=1, allow_nan=False)
        out.write("\n")
    return code or (0 if any(isinstance(outcome, Sample) for outcome in running.outcomes) else 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pyllama bench",
        usage="pyllama bench URL [options]",
        description="Put a load on any server of OpenAI's chat completions, and say how it did.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("url", metavar="URL", help="http(s)://host[:port], with a prefix or /v1, or the endpoint itself")
    when = parser.add_argument_group("when").add_argument
    when("--users", type=_count, metavar="N", help="closed loop: each has one request in flight (1)")
    when("--rate", type=_positive, metavar="R", help="open loop: R requests a second, whatever is in flight")
    when("--arrivals", choices=("poisson", "constant"), default="poisson", help="of the open loop (poisson)")
    when("--max-open", type=_count, default=1000, metavar="N", help="open loop: in flight at most (1000)")
    when(
        "--requests",
        type=_count,
        metavar="N",
        help=f"in all ({_REQUESTS_OF_A_USER} a user, or {_DURATION_S:g} s of the open loop)",
    )
    when(
        "--duration",
        type=_positive,
        metavar="S",
        help="begin requests for S seconds, and wait for the ends",
    )
    when("--pause", type=_not_negative, default=0.0, metavar="S", help="of a user before each request (0)")
    when("--retries", type=_index, default=0, metavar="N", help="send again after Retry-After, N times (0)")
    what = parser.add_argument_group("what").add_argument
    what("--model", help="the request's model; none is named by default")
    what("--api-key", metavar="KEY", help=f"bearer token; better in the environment, as {_KEY}")
    what("--prompt-words", type=_count, default=32, metavar="N", help="words of each prompt (32)")
    what("--shared-words", type=_index, default=0, metavar="N", help="of these, the same in all prompts (0)")
    what("--system-words", type=_index, default=0, metavar="N", help="words of a common system message (0)")
    what("--prompts", type=Path, metavar="FILE", help="JSON lines instead: texts, or fields of a body")
    what("--max-tokens", type=_count, default=64, metavar="N", help="of each answer (64)")
    what("--ignore-eos", action="store_true", help="answers of full length, where the server can do that")
    what("--body", default="{}", metavar="JSON", help="more fields of each body: '{\"temperature\": 0}'")
    what("--seed", type=int, default=1, metavar="N", help="of the words and the arrivals (1)")
    how = parser.add_argument_group("limits and results").add_argument
    how(
        "--slo",
        metavar="LIST",
        help="what a good answer keeps to, in ms: ttft=500,gap=100,tpot=50",
    )
    how("--timeout", type=_positive, default=900.0, metavar="S", help="of a request (900)")
    how("--stall-timeout", type=_positive, default=300.0, metavar="S", help="without a byte (300)")
    how("--connect-timeout", type=_positive, default=10.0, metavar="S", help="to connect (10)")
    how("--insecure", action="store_true", help="take any certificate")
    how("--json", metavar="FILE", help="write every figure and every request; - for stdout")
    return parser


def _load(options: argparse.Namespace) -> Load:
    if options.rate is not None and options.users is not None:
        raise ValueError("--users is a closed loop and --rate an open one: one of them")
    try:
        fields = json.loads(options.body)
    except ValueError as exc:
        raise ValueError(f"--body: {exc}") from None
    if not isinstance(fields, dict):
        raise ValueError("--body: a JSON object")
    if options.model is not None:
        fields["model"] = options.model
    if options.ignore_eos:
        fields["ignore_eos"] = True
    users = options.users or 1
    requests, duration = options.requests, options.duration
    if requests is None and duration is None:
        if options.rate is None:
            requests = _REQUESTS_OF_A_USER * users
        else:
            duration = _DURATION_S
    ask = Ask(
        prompt_words=options.prompt_words,
        shared_words=options.shared_words,
        system_words=options.system_words,
        max_tokens=options.max_tokens,
        fields=fields,
        prompts=read_prompts(options.prompts) if options.prompts is not None else (),
        seed=options.seed,
    )
    return Load(
        ask,
        users=users,
        rate=options.rate,
        poisson=options.arrivals == "poisson",
        max_open=options.max_open,
        requests=requests,
        duration_s=duration,
        pause_s=options.pause,
        n_retries=options.retries,
    )


def _api_key(options: argparse.Namespace) -> str | None:
    key: str | None = options.api_key if options.api_key is not None else os.environ.get(_KEY)
    if key and not (key.isascii() and key.isprintable()):
        raise ValueError("the API key holds characters that no header may hold")
    return key or None


def _progress() -> Callable[[Run], None] | None:
    return _show if can_move_cursor(sys.stderr) else None


def _show(running: Run) -> None:
    state = f"{running.n_over} over ({running.n_failed} failed), {running.n_in_flight} in flight"
    sys.stderr.write(f"\r{state}\x1b[K")
    sys.stderr.flush()


def _number(convert: Callable[[str], Any], lowest: float, words: str) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            value = convert(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value >= lowest):
            raise argparse.ArgumentTypeError(f"{text!r} is not {words}")
        return value

    return read


_count = _number(int, 1, "a whole number from 1 on")
_index = _number(int, 0, "a whole number from 0 on")
_positive = _number(float, 1e-9, "a number greater than 0")
_not_negative = _number(float, 0, "a number from 0 on")
