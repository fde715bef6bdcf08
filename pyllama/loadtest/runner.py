"""Runs a load to its end."""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Iterator

from pyllama.loadtest.crowd import Crowd
from pyllama.loadtest.exchange import Exchange, Limits
from pyllama.loadtest.load import Load
from pyllama.loadtest.sample import Refusal, Sample, read_exchange, retry_after
from pyllama.loadtest.target import Target
from pyllama.loadtest.wire import request_bytes

__all__ = ["Run"]

_PREPARED = 64 << 20  # bytes of requests that are written out before the load starts
_KEPT = 256 << 20  # bytes of answers that are not read before the load is over
_LONGEST_WAIT_S = 300.0  # what a server may ask to wait before a request is sent again
_NO_TIME = float("inf")


class Run:
    """One load on one target. ``run`` may be interrupted: what there is by then stays.

    While the load runs, answers are only kept, so that reading them takes nothing from a server on the same
    machine; beyond a quarter of a gigabyte each is read when it is over.

    Attributes:
        outcomes: Of the requests that are over, in no order.
        n_unfinished: Requests in flight when it was interrupted.
        cpu_share: CPU time of this process over the time that the load took.
    """

    def __init__(
        self,
        target: Target,
        load: Load,
        limits: Limits | None = None,
        api_key: str | None = None,
        progress: Callable[[Run], None] | None = None,
    ) -> None:
        self.load = load
        self.outcomes: list[Sample | Refusal] = []
        self.n_over = 0
        self.n_failed = 0
        self.n_unfinished = 0
        self.cpu_share = math.nan
        self._target = target
        self._limits = limits
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._progress = progress
        self._kept: list[Exchange] = []
        self._kept_bytes = 0
        self._n_begun = 0
        self._prepared: dict[int, bytes] = {}
        # Users by when they send next; requests to be tried again by when; in seconds from the start.
        self._users: list[tuple[float, int]] = []
        self._again: list[tuple[float, int, Exchange]] = []

    def run(self) -> None:
        """Send every request, and wait for the answers.

        Raises:
            TargetError: The target cannot be reached.
            KeyboardInterrupt: It was interrupted; what there is can be read.
        """
        self._prepare()
        with Crowd(self._target, self._limits) as crowd:
            begun, cpu = time.perf_counter(), time.process_time()
            try:
                self._drive(crowd, begun)
            finally:
                self.cpu_share = (time.process_time() - cpu) / max(1e-9, time.perf_counter() - begun)
                self.n_unfinished = crowd.n_open + len(self._again)
                self.outcomes += [read_exchange(exchange) for exchange in self._kept]
                self._kept.clear()

    @property
    def n_in_flight(self) -> int:
        """How many requests have been begun and are not over."""
        return self._n_begun - self.n_over

    def _prepare(self) -> None:
        n_bytes = number = 0
        n_wanted = 1000 if self.load.n_requests == _NO_TIME else self.load.n_requests
        while number < n_wanted and n_bytes < _PREPARED:
            self._prepared[number] = self._request(number)
            n_bytes += len(self._prepared[number])
            number += 1

    def _request(self, number: int) -> bytes:
        if found := self._prepared.pop(number, None):
            return found
        body = self.load.ask.body(self.load.first + number)
        return request_bytes(self._target.authority, self._target.path, body, self._headers)

    def _drive(self, crowd: Crowd, begun: float) -> None:
        load = self.load
        arrivals = load.arrivals() if load.rate is not None else iter(())
        due = next(arrivals, _NO_TIME)
        if load.rate is None:
            self._users = [(load.pause_s, number) for number in range(int(min(load.users, load.n_requests)))]
        shown = 0.0
        while True:
            now = time.perf_counter() - begun
            due = self._begin_due(crowd, begun, now, due, arrivals)
            self._try_again(crowd, now)
            if self._progress is not None and now >= shown:
                self._progress(self)
                shown = now + 1
            self._take_ended(crowd, time.perf_counter() - begun)
            waiting = self._next_time(crowd, due)
            if waiting == _NO_TIME and not crowd.n_open:
                return
            until = min(waiting, shown) if self._progress is not None else waiting
            crowd.read_until(lambda: bool(crowd.ended), begun + until)

    def _may_begin(self, at: float) -> bool:
        limit = self.load.duration_s
        return self._n_begun < self.load.n_requests and (limit is None or at < limit)

    def _next_time(self, crowd: Crowd, due: float) -> float:
        """Return when something is to be sent next, in seconds from the start."""
        times = [self._again[0][0]] if self._again else []
        if self._users and self._may_begin(self._users[0][0]):
            times.append(self._users[0][0])
        if self._may_begin(due) and crowd.n_open < self.load.max_open:
            times.append(due)
        return min(times, default=_NO_TIME)

    def _begin_due(
        self, crowd: Crowd, begun: float, now: float, due: float, arrivals: Iterator[float]
    ) -> float:
        """Send what is due; return when the open loop's next request is."""
        while self._users and self._users[0][0] <= now and self._may_begin(self._users[0][0]):
            self._begin(crowd, heapq.heappop(self._users)[1], 0)
        # A request that was due in time is sent, however late: to leave it out would hide that it waited.
        while due <= now and self._may_begin(due) and crowd.n_open < self.load.max_open:
            self._begin(crowd, 0, int((begun + due) * 1e9))
            due = next(arrivals, _NO_TIME)
        return due

    def _begin(self, crowd: Crowd, user: int, due_ns: int) -> None:
        number = self._n_begun
        self._n_begun += 1
        crowd.open(self._request(number), number, user, due_ns)

    def _try_again(self, crowd: Crowd, now: float) -> None:
        while self._again and self._again[0][0] <= now:
            crowd.retry(heapq.heappop(self._again)[2])

    def _take_ended(self, crowd: Crowd, now: float) -> None:
        for exchange in crowd.ended:
            wait = retry_after(exchange)
            if exchange.n_tries <= self.load.n_retries and wait <= _LONGEST_WAIT_S:
                heapq.heappush(self._again, (now + wait, exchange.number, exchange))
                continue
            self.n_over += 1
            self.n_failed += exchange.failure is not None or exchange.response.status != 200
            if self.load.rate is None:
                heapq.heappush(self._users, (now + self.load.pause_s, exchange.user))
            self._keep(exchange)
        crowd.ended.clear()

    def _keep(self, exchange: Exchange) -> None:
        exchange.request = b""
        self._kept_bytes += exchange.response.n_bytes
        if self._kept_bytes > _KEPT:
            self.outcomes.append(read_exchange(exchange))
        else:
            self._kept.append(exchange)
