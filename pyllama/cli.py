"""The commands ``pyllama`` and ``pyllama-server``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pyllama.errors import InvalidRequestError, ModelLoadError

if TYPE_CHECKING:
    from pyllama._core import _llama

__all__ = ["main", "server_main"]

_USAGE = """\
usage: pyllama serve [llama-server's flags]   serve the OpenAI API (see pyllama serve --help)
       pyllama info [--json]                  show the version, llama.cpp's build, backends and devices
       pyllama --version
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``pyllama``; return the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    command = args[0] if args else ""
    if command == "serve":
        return server_main(args[1:])
    if command == "info" and args[1:] in ([], ["--json"]):
        return _info(as_json=args[1:] == ["--json"])
    if args in (["--version"], ["-V"]):
        print(f"pyllama {_version()}")
        return 0
    if args in (["--help"], ["-h"]):
        print(_USAGE, end="")
        return 0
    if args:
        print(f"pyllama: unknown command or argument: {' '.join(args)}", file=sys.stderr)
    print(_USAGE, end="", file=sys.stderr)
    return 2


def server_main(argv: Sequence[str] | None = None) -> int:
    """Run ``pyllama-server``; return the exit code."""
    from pyllama._core import _llama

    args = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _serve(args)
    except _llama.CliExit as exc:
        code = exc.code
    except (InvalidRequestError, ModelLoadError, OSError) as exc:
        print(f"pyllama-server: {exc}", file=sys.stderr)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _serve(args: list[str]) -> int:
    from pyllama._core import _llama
    from pyllama.models import demo_model_path
    from pyllama.server.modelfile import check_model_file
    from pyllama.server.serve import run_server
    from pyllama.server.settings import Settings
    from pyllama.server.sockets import bind_all

    params = _llama.ServerParams(args)
    flags = params.as_dict()
    if not flags["model_path"] and not flags["model_source"]:
        params.set_model_path(demo_model_path())
        flags = params.as_dict()
        print("no model given (-m FILE): serving the small demo model that comes with pyllama", flush=True)
    settings = Settings.from_flags(flags)
    if settings.model_path:
        check_model_file(settings.model_path)
    sockets = bind_all(settings)

    def load() -> tuple[_llama.Engine, _llama.Waker]:
        return _llama.Engine(params), _llama.Waker()

    return run_server(settings, sockets, load, _announcer(settings.api_prefix, bool(settings.api_keys)))


def _announcer(prefix: str, has_keys: bool) -> Any:
    def announce(addresses: list[str]) -> None:
        for address in addresses:
            print(f"pyllama-server is ready on {address}{prefix}")
        url = next((address for address in addresses if address.startswith("http")), None)
        if url is not None:
            key = " -H 'Authorization: Bearer YOUR_KEY'" if has_keys else ""
            print("Try:")
            print(f"  curl -N {url}{prefix}/v1/chat/completions{key} \\")
            print('    -d \'{"messages":[{"role":"user","content":"What is 17 + 25?"}],"stream":true}\'')
        sys.stdout.flush()

    return announce


def _info(*, as_json: bool) -> int:
    from pyllama._core import _llama

    info: dict[str, Any] = {"pyllama": _version(), "python": sys.version.split()[0], **_llama.build_info()}
    if as_json:
        print(json.dumps(info, indent=2))
        return 0
    for name, value in info.items():
        if name == "devices":
            for device in value:
                free, total = device["memory_free"] / 2**20, device["memory_total"] / 2**20
                print(
                    f"device         {device['name']}: {device['description']} "
                    f"({device['backend']}, {device['kind']}, {free:.0f} of {total:.0f} MiB free)"
                )
        else:
            shown = ", ".join(value) if isinstance(value, list) else value
            print(f"{name.replace('_', '.'):<14} {shown}")
    return 0


def _version() -> str:
    return version("pyllama-engine")


if __name__ == "__main__":
    sys.exit(main())
