"""``pyllama run``: one answer, for pipes."""

from __future__ import annotations

import os
import stat
import sys

from pyllama.cli.session import guarded, open_engine, take_option
from pyllama.cli.terminal import Bar, dim, printable
from pyllama.errors import InvalidRequestError
from pyllama.sync import SyncStream

__all__ = ["run"]

_USAGE = """\
usage: pyllama run "PROMPT" [--system TEXT] [--show-reasoning] [flags]
       COMMAND | pyllama run ["PROMPT"] [flags]

Writes the answer, and nothing else, to stdout; --show-reasoning writes the reasoning to stderr. What is piped
in is the prompt, or follows the prompt that is given. Flags are llama-server's (pyllama serve --help).

exit codes: 0 answered, 1 failed, 2 wrong use, 130 Ctrl-C, 141 nobody reads the answer
"""


def run(args: list[str]) -> int:
    """Answer one prompt; return the exit code."""
    if "--help" in args or "-h" in args:
        print(_USAGE, end="")
        return 0
    flags = [arg for arg in args if arg != "--show-reasoning"]
    try:
        system = take_option(flags, "--system")
        prompt = _take_prompt(flags)
    except LookupError as exc:
        print(f"pyllama run: {exc}\n{_USAGE}", end="", file=sys.stderr)
        return 2

    def answer() -> int:
        text = "\n\n".join(part for part in (prompt, _piped_text()) if part)
        if not text:
            print(f"pyllama run: there is no prompt\n{_USAGE}", end="", file=sys.stderr)
            return 2
        messages = [] if system is None else [{"role": "system", "content": system}]
        messages.append({"role": "user", "content": text})
        with open_engine(flags) as (engine, _):
            return _write(engine.chat(messages, return_progress=True), "--show-reasoning" in args)

    return guarded("run", answer)


def _take_prompt(flags: list[str]) -> str | None:
    """Take the prompt out of the arguments: the first one, or the last one where the flags come first."""
    if not flags:
        return None
    if not flags[0].startswith("-"):
        return flags.pop(0)
    from pyllama._core import _llama

    try:
        _llama.ServerParams(flags)
    except InvalidRequestError:
        # The last argument is not a flag's value: it is the prompt, unless it is the flag that is wrong.
        if not flags[-1].startswith("-"):
            return flags.pop()
    return None


def _piped_text() -> str:
    mode = os.fstat(sys.stdin.fileno()).st_mode if sys.stdin else 0
    if not (stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)):
        return ""
    return sys.stdin.buffer.read().decode("utf-8", "replace").strip("\n")


def _write(stream: SyncStream, show_reasoning: bool) -> int:
    bar = Bar("reading the prompt")
    to_person = sys.stdout.isatty()
    wrote = "\n"
    reasoned = False
    try:
        for delta in stream:
            if delta.prefill is not None:
                bar.show(delta.prefill.processed / max(1, delta.prefill.total))
                continue
            bar.clear()
            if delta.reasoning and show_reasoning:
                reasoned = True
                sys.stderr.write(dim(printable(delta.reasoning), sys.stderr))
                sys.stderr.flush()
            if delta.content:
                if reasoned:
                    sys.stderr.write("\n")
                    reasoned = False
                wrote = delta.content
                sys.stdout.write(printable(wrote) if to_person else wrote)
                sys.stdout.flush()
        if not wrote.endswith("\n"):
            sys.stdout.write("\n")
            sys.stdout.flush()
    finally:
        bar.clear()
    return 0
