"""The commands ``pyllama`` and ``pyllama-server``: one module per subcommand, loaded when it is called."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from pyllama.cli.pipes import drop_output
from pyllama.version import package_version

__all__ = ["main", "server_main"]

# Each module has ``run(args) -> exit code``.
_COMMANDS = {
    "serve": ("pyllama.cli.serve", "[flags]", "serve the OpenAI API; flags as of llama-server"),
    "chat": ("pyllama.cli.chat", "[flags]", "talk to a model in the terminal"),
    "run": ("pyllama.cli.run", '"PROMPT" [flags]', "answer one prompt; for pipes"),
    "demo": ("pyllama.cli.demo", "", "watch a model that thinks be told to answer"),
    "doctor": ("pyllama.cli.doctor", "[-m FILE]", "find what is wrong with this installation"),
    "bench": ("pyllama.cli.bench", "URL [options]", "put a load on a server, and measure it"),
    "info": ("pyllama.cli.info", "[--json]", "show the version, llama.cpp's build, backends and devices"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``pyllama``; return the exit code."""
    return _written(lambda: _main(list(sys.argv[1:] if argv is None else argv)))


def server_main(argv: Sequence[str] | None = None) -> int:
    """Run ``pyllama-server``; return the exit code."""
    return _written(lambda: _run("serve", list(sys.argv[1:] if argv is None else argv)))


def _written(body: Callable[[], int]) -> int:
    """Return the body's exit code once its output is written, or that of a reader who is gone."""
    try:
        code = body()
        sys.stdout.flush()
    except BrokenPipeError:
        return drop_output()
    sys.stderr.flush()
    return code


def _main(args: list[str]) -> int:
    if args and args[0] in _COMMANDS:
        return _run(args[0], args[1:])
    if args in (["--version"], ["-V"]):
        print(f"pyllama {package_version()}")
        return 0
    if args in (["--help"], ["-h"]):
        print(_usage(), end="")
        return 0
    if args:
        print(f"pyllama: unknown command or argument: {' '.join(args)}", file=sys.stderr)
    print(_usage(), end="", file=sys.stderr)
    return 2


def _run(command: str, args: list[str]) -> int:
    code: int = import_module(_COMMANDS[command][0]).run(args)
    return code


def _usage() -> str:
    lines = [
        f"{'pyllama ' + name + ' ' + args:<30} {what}" for name, (_, args, what) in _COMMANDS.items()
    ] + ["pyllama --version"]
    return "usage: " + "\n       ".join(lines) + "\n"
