"""The load tool as benchmarks use it: on servers of this machine, where every request has to be answered."""

from __future__ import annotations

import json
import socket
from typing import Any

from bench.servers import HOST
from pyllama.loadtest import Ask, Crowd, Exchange, Limits, Load, Refusal, Run, Sample, Target, read_exchange
from pyllama.loadtest.target import Address
from pyllama.loadtest.wire import request_bytes

PATH = "/v1/chat/completions"
LIMITS = Limits(stall_s=600.0, total_s=3600.0)


class LoadError(RuntimeError):
    """A request of a benchmark was not answered as it has to be."""


def target(port: int) -> Target:
    """Return a server of this machine as a target."""
    return Target(HOST, port)


def opened(port: int) -> Crowd:
    """Return a crowd of connections to a server of this machine, none yet."""
    return Crowd(target(port), LIMITS, Address(socket.AF_INET, (HOST, port)))


def asking(max_tokens: int, **fields: Any) -> Ask:
    """Return what benchmarks ask for: greedy answers of full length; `fields` are Ask's own."""
    return Ask(max_tokens=max_tokens, fields={"ignore_eos": True, "temperature": 0}, **fields)


def run_load(port: int, load: Load) -> list[Sample | Refusal]:
    """Run a load to its end, whatever becomes of its requests."""
    run = Run(target(port), load, LIMITS)
    run.run()
    return run.outcomes


def answered(outcome: Sample | Refusal) -> Sample:
    """Return an outcome that has to be an answer.

    Raises:
        LoadError: It is none, or the server told no usage.
    """
    where = f"request {outcome.number}"
    if isinstance(outcome, Refusal):
        raise LoadError(f"{where}: {outcome.failure.kind}: {outcome.failure.detail}")
    if outcome.counted:
        raise LoadError(f"{where}: an answer without usage")
    return outcome


def read_answer(exchange: Exchange) -> Sample:
    """Return an exchange that is over and has to be an answer.

    Raises:
        LoadError: It is none.
    """
    return answered(read_exchange(exchange))


def request(port: int, path: str, body: dict[str, Any] | None, **headers: str) -> bytes:
    """Return a request's bytes; underscores in a header's name stand for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return request_bytes(target(port).authority, path, body, named)


def fetch(port: int, path: str, body: dict[str, Any] | None = None) -> bytes:
    """Return the body of one answer: to a POST, or to a GET if there is no body.

    Raises:
        LoadError: The status was not 200.
    """
    with opened(port) as crowd:
        exchange = crowd.open(request(port, path, body))
        crowd.read_all()
    response = exchange.response
    if exchange.failure is not None or response.status != 200:
        raise LoadError(f"{path}: {exchange.failure or response.status}: {response.body[:500]!r}")
    return response.body


def post(port: int, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON answer of one POST.

    Raises:
        LoadError: The status was not 200.
    """
    answer: dict[str, Any] = json.loads(fetch(port, path, body))
    return answer


def metric(port: int, name: str) -> float:
    """Return one value of /metrics.

    Raises:
        LoadError: There is none of that name.
    """
    for line in fetch(port, "/metrics").decode().splitlines():
        if line.startswith(name + " "):
            return float(line.split()[1])
    raise LoadError(f"/metrics has no {name}")
