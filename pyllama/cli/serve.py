"""``pyllama serve``, which is also ``pyllama-server``."""

from __future__ import annotations

import locale
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pyllama.errors import InvalidRequestError, ModelLoadError
from pyllama.server.logs import LogOptions, announce, complain, set_up
from pyllama.version import package_version

if TYPE_CHECKING:
    from pyllama._core import _llama
    from pyllama.server.settings import Settings

__all__ = ["run"]


# llama-common's --verbosity of debugging.
_DEBUG = 5


def run(args: list[str]) -> int:
    """Serve until a signal; return the exit code. One line on stderr says why it could not start."""
    from pyllama._core import _llama

    try:
        return _serve(args)
    except _llama.CliExit as exc:
        return exc.code
    except (InvalidRequestError, ModelLoadError, OSError) as exc:
        complain(str(exc))
        return 1


def _serve(args: list[str]) -> int:
    from pyllama._core import _llama
    from pyllama.hub.fetch import fetch_model, fetch_projector
    from pyllama.models import demo_model_path
    from pyllama.server.flags import check_tools, given_flags, inert_warning, without_log_file
    from pyllama.server.heap import keep_little_free
    from pyllama.server.modelfile import check_model_file
    from pyllama.server.routes import all_routes
    from pyllama.server.serve import run_server
    from pyllama.server.settings import Settings
    from pyllama.server.sockets import bind_all
    from pyllama.server.state import ServerState
    from pyllama.server.vertex import apply_environment

    # Numbers in flags, templates and JSON have a point, whatever the environment's language.
    locale.setlocale(locale.LC_NUMERIC, "C")
    keep_little_free()
    known = _llama.known_flags()
    given = list(given_flags(known, args, os.environ))
    check_tools(given)
    os.environ.pop("LLAMA_ARG_LOG_FILE", None)
    params = _llama.ServerParams(without_log_file(known, args))
    flags = params.as_dict()
    log_options = LogOptions.from_flags(given)
    if log_options is not None:
        set_up(log_options, flags["verbosity"])
    warning = inert_warning(given)
    if warning is not None:
        complain(warning, logging.WARNING)
    remote = fetch_model(flags)
    demo = remote is None and not flags["model_path"] and not flags["model_source"]
    if remote is not None:
        params.set_model_path(remote)
        flags = params.as_dict()
    elif demo:
        params.set_model_path(demo_model_path())
        flags = params.as_dict()
    projector = fetch_projector(flags, remote)
    if projector is not None:
        params.set_projector_path(projector)
    settings, override = apply_environment(Settings.from_flags(flags), os.environ)
    if override:
        complain(override, logging.WARNING)
    all_routes(ServerState(settings))  # routes that clash end the start here
    if settings.static_path and not Path(settings.static_path).is_dir():
        raise InvalidRequestError(f"--path {settings.static_path}: no such directory", param="--path")
    if demo:
        announce("no model given (-m FILE): serving the small demo model that comes with pyllama")
    if settings.model_path:
        check_model_file(settings.model_path)
    sockets = bind_all(settings)

    def load() -> tuple[_llama.Engine, _llama.Waker]:
        return _llama.Engine(params), _llama.Waker()

    debugging = flags["verbosity"] >= _DEBUG
    return run_server(settings, sockets, load, _announcer(settings, debugging=debugging))


def _announcer(settings: Settings, *, debugging: bool) -> Callable[[list[str]], None]:
    prefix = settings.api_prefix

    def announce_all(addresses: list[str]) -> None:
        from pyllama._core import _llama

        build = _llama.build_info()
        backends = ", ".join(build["backends"])
        announce(f"pyllama {package_version()}, llama.cpp {build['llama_cpp']}, backend {backends}")
        if debugging:
            complain(f"{build['configuration']} build: {build['flags']}", logging.DEBUG)
        for address in addresses:
            announce(f"pyllama-server is ready on {address}{prefix}")
        url = next((address for address in addresses if address.startswith("http")), None)
        if url is not None:
            key = " -H 'Authorization: Bearer YOUR_KEY'" if settings.api_keys else ""
            announce("Try:")
            announce(f"  curl -N {url}{prefix}/v1/chat/completions{key} \\")
            announce('    -d \'{"messages":[{"role":"user","content":"What is 17 + 25?"}],"stream":true}\'')

    return announce_all
