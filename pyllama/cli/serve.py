"""``pyllama serve``, which is also ``pyllama-server``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from pyllama.errors import InvalidRequestError, ModelLoadError

if TYPE_CHECKING:
    from pyllama._core import _llama

__all__ = ["run"]


def run(args: list[str]) -> int:
    """Serve until a signal; return the exit code. One line on stderr says why it could not start."""
    from pyllama._core import _llama

    try:
        return _serve(args)
    except _llama.CliExit as exc:
        return exc.code
    except (InvalidRequestError, ModelLoadError, OSError) as exc:
        print(f"pyllama-server: {exc}", file=sys.stderr)
        return 1


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
