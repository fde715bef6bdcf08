"""Print docs/flags.md: every flag of the server, and whether it acts. Run as ``make docs``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyllama._core import _llama
from pyllama.server.flags import ACTING, INERT, REMOVED, leading_name

HEAD = """\
# Flags

<!-- Made by `make docs` out of pyllama/server/flags.py. -->

`pyllama serve` (which is also `pyllama-server`) takes llama-server's flags: they go through llama.cpp's own
parser, with its environment variables and its rules for values. `pyllama serve --help` explains each. This
page says which of them act. Setting one that does not act is no error; one line at the start names it:

    pyllama-server: accepted, but without effect: --spec-type (speculative decoding is not there yet)
"""

TITLES = {
    "common": "Model, context, devices",
    "sampling": "Sampling: the defaults of requests",
    "speculative": "Speculative decoding",
    "server": "Server",
    "pyllama": "pyllama's own",
}


def state_of(flag: Mapping[str, Any]) -> str:
    """Return what the last column says."""
    name = leading_name(flag)
    if name in REMOVED:
        return "refused: llama-server has removed it"
    for reason, names in INERT.items():
        if name in names:
            return f"no: {reason}"
        off = [each for each in flag["negated"] if each in names]
        if off:
            return f"yes, but not `{off[0]}`: {reason}"
    return "yes" if name in ACTING or flag["group"] == "pyllama" else "unknown"


def page() -> str:
    """Return the page."""
    parts = [HEAD]
    flags = _llama.known_flags()
    for group, title in TITLES.items():
        parts += [f"\n## {title}\n", "\n| flag | values | environment | acts |\n| --- | --- | --- | --- |\n"]
        for flag in flags:
            if flag["group"] == group:
                names = ", ".join(f"`{name}`" for name in (*flag["names"], *flag["negated"]))
                values = " ".join(value.replace("|", "\\|") for value in flag["values"])
                variable = f"`{flag['environment']}`" if flag["environment"] else ""
                shown = f"`{values}`" if values else ""
                parts.append(f"| {names} | {shown} | {variable} | {state_of(flag)} |\n")
    return "".join(parts)


if __name__ == "__main__":
    print(page(), end="")
