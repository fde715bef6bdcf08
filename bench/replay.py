"""Measure streams that outlive their connection: ``python -m bench.replay``.

Every figure is of one server on this machine, with its client beside it on the same cores.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from bench.client import PATH, LoadError, fetch, metric, opened, request
from bench.live import LiveStream
from bench.models import ensure_model
from bench.paths import DEMO_MODEL, PYLLAMA_SERVER
from bench.process import memory, thread_times, used_since
from bench.servers import Server, ServerError, Settings, running
from pyllama.loadtest import Exchange
from pyllama.loadtest.wire import read_events

MIB = 1 << 20
THREADS = max(1, (os.cpu_count() or 2) - 1)
N_CROWD = 1000
N_STORM = 500
N_STORM_STREAMS = 4
N_KEPT = 5000


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table."""

    what: str
    figure: str
    goal: str


def table(results: list[Result]) -> str:
    """Return the results in Markdown."""
    lines = ["| | measured | goal |", "| --- | --- | --- |"]
    return "\n".join(lines + [f"| {each.what} | {each.figure} | {each.goal} |" for each in results])


def percentile(values: list[float], share: float) -> float:
    """Return the value that ``share`` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def step_times(body: bytes) -> list[float]:
    """Return the milliseconds between tokens by the engine's clock, of a stream with timings_per_token."""
    done: list[tuple[int, float]] = []
    for line in body.split(b"\n"):
        if line.startswith(b"data: {"):
            timings = json.loads(line[6:]).get("timings")
            if timings:
                done.append((timings["predicted_n"], timings["predicted_ms"]))
    return [
        (later[1] - sooner[1]) / (later[0] - sooner[0])
        for sooner, later in pairwise(done)
        if later[0] > sooner[0]
    ]


def lags(times: Sequence[Sequence[int]]) -> list[float]:
    """Return how much later than the first reader each reader got each event, in seconds.

    ``times``: of each reader, the nanoseconds at which its events arrived; all have the same events.
    """
    return [(at - min(each)) / 1e9 for each in zip(*times, strict=True) for at in each]


def body_so_far(exchange: Exchange) -> bytes:
    """Return what has come of a stream, nothing of a refusal."""
    return exchange.response.body if exchange.response.status == 200 else b""


def post_request(port: int, name: str, max_tokens: int, **fields: object) -> bytes:
    """Return the POST of a conversation's stream."""
    body = {
        "messages": [{"role": "user", "content": f"Go on, {name}."}],
        "stream": True,
        "ignore_eos": True,
        "temperature": 0,
        "max_tokens": max_tokens,
        **fields,
    }
    return request(port, PATH, body, X_Conversation_Id=name)


def get_request(port: int, name: str, offset: int = 0) -> bytes:
    """Return the GET of a conversation's stream."""
    return request(port, f"/v1/stream/{name}?from={offset}", None)


# --- the ring ---


def append_cost(program: Path) -> Result:
    """Run the program that appends to a ring of 4 MiB and prints nanoseconds, by how full it is.

    On memory that the process has already: fresh pages cost more than the append.
    """
    kept = {"MALLOC_TRIM_THRESHOLD_": str(64 * MIB), "MALLOC_TOP_PAD_": str(8 * MIB)}
    output = subprocess.run(
        [program], check=True, capture_output=True, text=True, env={**os.environ, **kept}
    ).stdout
    costs = [float(line.split()[1]) for line in output.splitlines()]
    shown = ", ".join(f"{cost:.0f}" for cost in costs)
    spread = max(costs) / min(costs)
    return Result(
        "append of 250 bytes, from an empty to a full ring of 4 MiB, by eighths, then full",
        f"{shown} ns (largest over smallest {spread:.2f})",
        "flat",
    )


# --- a crowd of readers ---


def crowd_turn(server: Server, n_readers: int, n_tokens: int, name: str) -> tuple[float, list[float]]:
    """Stream to so many readers; return the engine's median step in ms and the readers' lags in seconds."""
    with opened(server.port) as crowd:
        writer = crowd.open(post_request(server.port, name, n_tokens, timings_per_token=True))
        crowd.read_until(lambda: writer.n_arrived > 0)
        readers = [crowd.open(get_request(server.port, name)) for _ in range(n_readers)]
        crowd.read_all()
    answer = body_so_far(writer)
    times: list[list[int]] = []
    for reader in readers:
        if body_so_far(reader) != answer:
            raise LoadError("a reader's bytes differ from the writer's")
        times.append([event.time_ns for event in read_events(reader.response.pieces)])
    n_late = len(list(read_events(writer.response.pieces))) // 4  # while they were still connecting
    return statistics.median(step_times(answer)[n_late:]), lags([each[n_late:] for each in times])


def crowd_cost(server: Server, rounds: int, n_tokens: int) -> list[Result]:
    """Compare the engine's step with a crowd of readers and with none, by turns."""
    alone: list[float] = []
    crowded: list[float] = []
    late: list[float] = []
    for number in range(rounds):
        alone.append(crowd_turn(server, 0, n_tokens, f"alone-{number}")[0])
        step, more = crowd_turn(server, N_CROWD, n_tokens, f"crowd-{number}")
        crowded.append(step)
        late += more
    without, beside = statistics.median(alone), statistics.median(crowded)
    return [
        Result(
            f"engine step p50 beside {N_CROWD} readers of one live stream, {THREADS} engine threads",
            f"{beside:.2f} ms, {without:.2f} ms without ({beside / without - 1:+.1%})",
            "+2 % at most",
        ),
        Result(
            "lag of those readers behind the first",
            f"p50 {percentile(late, 0.5) * 1e3:.0f} ms, p99 {percentile(late, 0.99) * 1e3:.0f} ms",
            "p99 ≤ 1 s",
        ),
    ]


# --- coming back ---


def reattach(server: Server, repeats: int) -> list[Result]:
    """Read a backlog of 4 MiB again and again."""
    with opened(server.port) as crowd:
        # Log-probabilities make events of some kB.
        writer = crowd.open(post_request(server.port, "backlog", 8000, logprobs=True, top_logprobs=20))
        crowd.read_until(lambda: writer.response.n_bytes > 6 * MIB or writer.over)
        crowd.drop(writer)
    end = lookup(server, "backlog")["total_bytes"]
    first: list[float] = []
    rates: list[float] = []
    n_wanted = 4 * MIB - 64 * 1024
    for _ in range(repeats):
        with opened(server.port) as crowd:
            begun = time.perf_counter_ns()
            reader = crowd.open(get_request(server.port, "backlog", end - n_wanted))
            crowd.read_until(lambda reader=reader: reader.response.n_bytes >= n_wanted or reader.over)
        pieces = reader.response.pieces
        first.append((pieces[0][0] - begun) / 1e6)
        rates.append(n_wanted / ((pieces[-1][0] - begun) / 1e9) / 1e6)
    return [
        Result("reattach with 4 MiB of backlog: first byte", f"{statistics.median(first):.1f} ms", "< 10 ms"),
        Result("all of it, on loopback", f"{statistics.median(rates):.0f} MB/s", "≥ 200 MB/s"),
    ]


def lookup(server: Server, name: str) -> dict[str, int]:
    """Return what the server says of a conversation once its stream has ended."""
    while True:
        found: list[dict[str, int]] = json.loads(
            fetch(server.port, "/v1/streams/lookup", {"conversation_ids": [name]})
        )
        if found and found[0]["is_done"]:
            return found[0]
        time.sleep(0.05)


def storm(server: Server, n_tokens: int, seed: int) -> Result:
    """Let all clients drop within half a second and come back within a second; compare their bytes."""
    order = random.Random(seed)
    names = [f"storm-{number}" for number in range(N_STORM_STREAMS)]
    with opened(server.port) as crowd:
        writers = [crowd.open(post_request(server.port, name, n_tokens)) for name in names]
        crowd.read_until(lambda: all(writer.n_arrived for writer in writers))
        for writer in writers:
            crowd.drop(writer)
        clients = [
            (name, crowd.open(get_request(server.port, name)))
            for name in names * (N_STORM // N_STORM_STREAMS)
        ]
        crowd.read_until(lambda: all(reader.n_arrived for _, reader in clients))
        begun = time.perf_counter()
        moments = []
        for number in range(len(clients)):
            left = order.uniform(0, 0.5)
            moments += [(left, 0, number), (order.uniform(left, 1), 1, number)]
        had: dict[int, bytes] = {}
        again = {}
        for moment, comes_back, number in sorted(moments):
            crowd.read_until(lambda: False, begun + moment)
            name, reader = clients[number]
            if not comes_back:
                crowd.drop(reader)
                had[number] = body_so_far(reader)
            else:
                again[number] = crowd.open(get_request(server.port, name, len(had[number])))
        took = time.perf_counter() - begun
        crowd.read_all()
        whole = {name: crowd.open(get_request(server.port, name)) for name in names}
        crowd.read_all()
    truth = {name: body_so_far(reader) for name, reader in whole.items()}
    n_wrong = sum(
        had[number] + body_so_far(reader) != truth[clients[number][0]] for number, reader in again.items()
    )
    n_live = sum(len(each) < len(truth[clients[number][0]]) for number, each in had.items())
    return Result(
        f"{N_STORM} clients of {N_STORM_STREAMS} streams drop and come back within {took:.1f} s",
        f"{n_wrong} with wrong or missing bytes ({n_live} came back to a stream that went on)",
        "0",
    )


# --- keeping ---


def idle(server: Server) -> list[Result]:
    """Keep many ended sessions; what they take beside their bytes, and what they cost while nobody reads."""

    def make(first: int, last: int) -> None:
        with opened(server.port) as crowd:
            for number in range(first, last):
                crowd.open(post_request(server.port, f"kept-{number}", 8))
                crowd.read_until(lambda: crowd.n_open < 64)
            crowd.read_all()

    def cpu() -> float:
        times = thread_times(server.pid)
        time.sleep(5)
        return used_since(times, thread_times(server.pid)) / 5

    make(-500, 0)  # what a server takes for having served at all
    idle_before = cpu()
    before, bytes_before = memory(server.pid), metric(server.port, "pyllama:stream_bytes")
    make(0, N_KEPT)
    after, bytes_after = memory(server.pid), metric(server.port, "pyllama:stream_bytes")
    kept = metric(server.port, "pyllama:sessions_kept")
    if kept < N_KEPT:
        raise LoadError(f"only {kept:g} sessions were kept")
    idle_after = cpu()
    taken = (after.anonymous - before.anonymous) * 1e6 / N_KEPT
    own = (bytes_after - bytes_before) / N_KEPT
    return [
        Result(
            f"{N_KEPT} idle kept sessions: memory of one",
            f"{taken / 1e3:.1f} kB, its charged bytes {own / 1e3:.1f} kB",
            "its bytes",
        ),
        Result(
            "CPU of the server that keeps them",
            f"{idle_after:.2%} of a core ({idle_before:.2%} with 500 of them)",
            "no more",
        ),
    ]


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ring", type=Path, help="the program of tests/csrc/bench_ring.cpp, built")
    parser.add_argument("--model", default="medium", help="of the crowd")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    command = [str(PYLLAMA_SERVER), "--metrics"]
    live = Settings(ensure_model(args.model), parallel=4, context=16384, threads=THREADS)
    small = Settings(DEMO_MODEL, parallel=8, context=65536, threads=THREADS)
    results: list[Result] = []
    try:
        if args.ring is not None:
            results.append(append_cost(args.ring))
        with running(command, live, "replay-live") as server:
            with LiveStream(
                server.port, {"messages": [{"role": "user", "content": "a"}], "max_tokens": 32}
            ) as warm:
                warm.wait_for(finished=True)
            results += crowd_cost(server, args.rounds, 400)
            results.append(storm(server, 1000, 7))
        with running(command, small, "replay-small") as server:
            results += reattach(server, args.repeats)
            results += idle(server)
    except (LoadError, ServerError, OSError) as error:
        print(table(results))
        print(error, file=sys.stderr)
        return 1
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
