"""Start a server, wait until it is ready, and stop it."""

from __future__ import annotations

import http.client
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.paths import OUT

HOST = "127.0.0.1"


class ServerError(RuntimeError):
    """A server did not start, or did not stop."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What both servers are told, in llama-server's flags. Nothing that matters is left to a default."""

    model: Path
    parallel: int = 32
    context: int = 16384
    unified: bool = False
    threads: int = 2
    batch: int = 2048
    ubatch: int = 512
    template: Path | None = None  # a chat template instead of the model's own

    def flags(self) -> list[str]:
        """Return the flags; the cache of old prompts is off, as its size would depend on the history."""
        named: dict[str, object] = {
            "-m": self.model,
            "-np": self.parallel,
            "-c": self.context,
            "-t": self.threads,
            "-tb": self.threads,
            "-b": self.batch,
            "-ub": self.ubatch,
            "--cache-ram": 0,
        }
        if self.template is not None:
            named["--chat-template-file"] = self.template
        flags = [str(part) for pair in named.items() for part in pair]
        return [*flags, "--metrics", "-kvu" if self.unified else "-no-kvu"]


@dataclass(frozen=True, slots=True)
class Server:
    """A running, ready server."""

    pid: int
    port: int
    ready_s: float  # from starting the process to the first 200 of /health


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(
    command: Sequence[str], settings: Settings, log: str, timeout_s: float = 180.0
) -> Iterator[Server]:
    """Run a server for the length of a `with` block; its output goes to bench/out/<log>.log.

    Raises:
        ServerError: The process ended, or was not ready within `timeout_s`.
    """
    port = free_port()
    path = OUT / f"{log}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    arguments = [*command, *settings.flags(), "--host", HOST, "--port", str(port)]
    with path.open("wb") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            _wait_until_ready(process, port, started + timeout_s, path)
            yield Server(process.pid, port, time.perf_counter() - started)
        finally:
            _stop(process)


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, deadline: float, log: Path) -> None:
    while not is_ready(port):
        if process.poll() is not None:
            raise ServerError(f"the server ended with status {process.returncode}; see {log}")
        if time.perf_counter() > deadline:
            raise ServerError(f"the server was not ready in time; see {log}")
        time.sleep(0.005)


def is_ready(port: int) -> bool:
    """Tell whether /health answers 200."""
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
