"""A load client for ``/v1/chat/completions``: many users, one thread, raw sockets.

While the load runs it only calls recv() and notes the time, so that it takes next to nothing from the cores
that the server computes on. Run as ``python -m bench.load --port 8080 --users 8``.
"""

from __future__ import annotations

import argparse
import heapq
import json
import selectors
import socket
import sys
import time
from dataclasses import dataclass
from typing import Any

from bench.sample import Exchange, Figures, LoadError, Sample, as_json, read_sample, summarize
from bench.wire import TAIL, is_complete, request_bytes
from bench.words import prompt

PATH = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Load:
    """What the users ask for.

    Attributes:
        users: Each has one request in flight.
        requests: Requests of each user, one after the other.
        prompt_words: Length of each prompt; about as many tokens with a BPE vocabulary.
        shared_words: How many words at the start all prompts share.
        pause_s: Seconds a user waits before each request.
    """

    users: int = 1
    requests: int = 1
    prompt_words: int = 32
    shared_words: int = 0
    max_tokens: int = 64
    pause_s: float = 0.0
    temperature: float = 0.0
    seed: int = 1

    def body(self, user: int, turn: int) -> dict[str, Any]:
        """Return one request's body."""
        text = prompt(self.prompt_words, self.shared_words, self.seed, user, turn)
        return {
            "messages": [{"role": "user", "content": text}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": self.max_tokens,
            "ignore_eos": True,
            "temperature": self.temperature,
            "seed": self.seed + user,
        }


class _User:
    """Sends its requests in turn, each on a new connection, and keeps what comes back.

    llama-server closes its connection after every stream, so neither server gains by keeping one open.
    """

    def __init__(self, address: tuple[str, int], load: Load, number: int) -> None:
        self._address = address
        self._host = f"{address[0]}:{address[1]}"
        # Written out before the load starts: building them is not part of the measurement.
        self._requests = [request_bytes(self._host, PATH, load.body(number, t)) for t in range(load.requests)]
        self._number = number
        self._tail = bytearray()
        self.connection: socket.socket | None = None
        self.exchanges: list[Exchange] = []

    @property
    def finished(self) -> bool:
        return len(self.exchanges) == len(self._requests)

    def send(self) -> socket.socket:
        """Connect, and send the next request."""
        turn = len(self.exchanges)
        self._tail.clear()
        self.exchanges.append(Exchange(self._number, turn, time.perf_counter_ns()))
        self.connection = socket.create_connection(self._address, timeout=30)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection.sendall(self._requests[turn])
        return self.connection

    def receive(self) -> bool:
        """Take what has arrived; true when the response is over."""
        assert self.connection is not None
        exchange = self.exchanges[-1]
        try:
            data = self.connection.recv(1 << 18)
        except OSError as error:
            data, exchange.failure = b"", f"the connection broke: {error}"
        if not data:
            exchange.failure = exchange.failure or "the server closed the connection before the answer's end"
            return True
        exchange.arrivals.append((time.perf_counter_ns(), data))
        self._tail += data
        if is_complete(self._tail):
            return True
        # A head that has not ended, and a body of known length, have to be kept whole; a stream has neither.
        if len(self._tail) > 2 * TAIL and b"chunked" in exchange.arrivals[0][1]:
            del self._tail[:-TAIL]
        return False

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None


def run_load(host: str, port: int, load: Load, timeout_s: float = 900.0) -> list[Sample]:
    """Run a load to its end and return one sample per request.

    Raises:
        LoadError: A request failed, or the whole load took longer than `timeout_s`.
    """
    users = [_User((host, port), load, number) for number in range(load.users)]
    deadline = time.monotonic() + timeout_s
    try:
        with selectors.DefaultSelector() as selector:
            _drive(selector, users, load.pause_s, deadline)
    finally:
        for user in users:
            user.close()
    return [read_sample(exchange) for user in users for exchange in user.exchanges]


def _drive(selector: selectors.BaseSelector, users: list[_User], pause_s: float, deadline: float) -> None:
    due = [(time.monotonic() + pause_s, number) for number in range(len(users))]
    running = 0
    while due or running:
        now = time.monotonic()
        if now > deadline:
            raise LoadError("the load did not end in time")
        while due and due[0][0] <= now:
            number = heapq.heappop(due)[1]
            selector.register(users[number].send(), selectors.EVENT_READ, number)
            running += 1
        for key, _ in selector.select(max(0.0, min(due[0][0] if due else deadline, deadline) - now)):
            user = users[key.data]
            if user.receive():
                selector.unregister(key.fileobj)
                user.close()
                running -= 1
                if not user.finished:
                    heapq.heappush(due, (time.monotonic() + pause_s, key.data))


def format_figures(figures: Figures) -> str:
    """Return the figures as lines of name and value."""
    return "\n".join(f"{name:18} {value:12.2f}" for name, value in figures.items())


def main() -> int:
    """Run one load from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--users", type=int, default=1)
    parser.add_argument("--requests", type=int, default=1, help="requests per user, one after the other")
    parser.add_argument("--prompt-words", type=int, default=32)
    parser.add_argument("--shared-words", type=int, default=0, help="words that all prompts begin with")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds before each request")
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print every sample as JSON")
    args = parser.parse_args()
    load = Load(
        users=args.users,
        requests=args.requests,
        prompt_words=args.prompt_words,
        shared_words=args.shared_words,
        max_tokens=args.max_tokens,
        pause_s=args.pause,
        temperature=args.temperature,
        seed=args.seed,
    )
    try:
        samples = run_load(args.host, args.port, load)
    except (LoadError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    if args.json:
        print(json.dumps({"figures": summarize(samples), "samples": as_json(samples)}))
    else:
        print(format_figures(summarize(samples)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
