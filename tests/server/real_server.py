"""A server process with the demo model, for tests with real clients."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

WEATHER_SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@contextmanager
def running_server(*flags: str, environment: Mapping[str, str] | None = None) -> Iterator[int]:
    """Run a server on a free port, unless the environment says which; give the port."""
    command = [sys.executable, "-P", "-m", "pyllama.cli", "serve", "--port", "0", "--threads", "1", *flags]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("Try:"):
            break
    found = re.search(r"ready on http://127\.0\.0\.1:(\d+)", "".join(lines))
    assert found is not None, (lines, process.communicate())
    try:
        yield int(found[1])
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 0
