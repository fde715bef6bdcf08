"""What is done to a started server: plain loads, a long prompt that arrives, a long answer."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Protocol, Self

from bench.client import (
    PATH,
    LoadError,
    answered,
    asking,
    metric,
    opened,
    post,
    read_answer,
    request,
    run_load,
)
from pyllama.loadtest import Ask, Figures, Load, Sample, median, percentile, summarize, text_times
from pyllama.loadtest.wire import Event, read_events


@dataclass(frozen=True, slots=True)
class Result:
    """What a workload gave.

    Attributes:
        values: Every value of the measures that have a distribution.
        samples: The answers of a load.
        users: Of the load.
    """

    figures: Figures
    values: dict[str, list[float]] = field(default_factory=dict)
    samples: Sequence[Sample] = ()
    users: int = 0


class Workload(Protocol):
    """Something to do to a server; `seed` makes its words different from those of any other."""

    def run(self, port: int, seed: int) -> Result:
        """Do it.

        Raises:
            LoadError: A request was not answered as it has to be.
        """

    def shortened(self) -> Self:
        """Return the same for a quick look."""


@dataclass(frozen=True, slots=True)
class Plain:
    """A load.

    Attributes:
        whole: Whether every request has to be answered; else the figure `finished` counts them.
        again: Whether the words are those of the workload before, from the last of its requests on.
    """

    load: Load
    whole: bool = True
    again: bool = False

    def run(self, port: int, seed: int) -> Result:
        ask = replace(self.load.ask, seed=seed - self.again)
        first = int(self.load.n_requests) if self.again else 0
        outcomes = run_load(port, replace(self.load, ask=ask, first=first))
        samples = [answered(outcome) for outcome in outcomes if self.whole or isinstance(outcome, Sample)]
        figures = summarize(outcomes)
        wanted = self.load.ask.max_tokens
        figures["finished"] = float(sum(sample.completion_tokens == wanted for sample in samples))
        return Result(
            figures,
            {
                "ttft": [sample.ttft for sample in samples],
                "gap": [gap for sample in samples for gap in sample.gaps],
            },
            samples,
            self.load.users,
        )

    def shortened(self) -> Self:
        load, tokens = self.load, self.load.ask.max_tokens or 64
        ask = replace(load.ask, max_tokens=max(4, tokens // 4))
        n_turns = max(1, int(load.n_requests) // load.users // 3)
        return replace(self, load=replace(load, ask=ask, requests=load.users * n_turns))


@dataclass(frozen=True, slots=True)
class Arrival:
    """A long prompt arrives while some streams run.

    Attributes:
        n_before: Events that each stream has had when it arrives; the last three quarters are the idle rate.
        max_tokens: Of each stream: more than they need, as they are dropped when the long prompt is over.
    """

    n_streams: int = 4
    prompt_words: int = 4000
    n_before: int = 64
    max_tokens: int = 3000
    repeats: int = 2

    def run(self, port: int, seed: int) -> Result:
        gaps: list[float] = []
        shares: list[float] = []
        ttfts: list[float] = []
        budgets: list[float] = []
        for number in range(self.repeats):
            share, ttft, budget, more = self._arrive(port, seed * self.repeats + number)
            shares.append(share)
            ttfts.append(ttft)
            budgets.append(budget)
            gaps += more
        figures = {
            "gap_max_ms": max(gaps),
            "gap_p50_ms": percentile(gaps, 50),
            "gap_p99_ms": percentile(gaps, 99),
            "rate_share": statistics.median(shares),
            "ttft_p50_ms": statistics.median(ttfts),
            "budget_ms": median(budgets),
        }
        return Result(figures, {"gap": gaps, "ttft": ttfts})

    def _arrive(self, port: int, seed: int) -> tuple[float, float, float, list[float]]:
        """Return the streams' rate during the prefill over the idle one, its TTFT, the budget and their gaps.

        All but the first in ms.
        """
        streams = asking(self.max_tokens, prompt_words=32, seed=seed)
        arriving = asking(1, prompt_words=self.prompt_words, seed=seed + 1_000_000)
        long_request = request(port, PATH, arriving.body(0))
        with opened(port) as crowd:
            running = [crowd.open(request(port, PATH, streams.body(n))) for n in range(self.n_streams)]
            crowd.read_until(
                lambda: bool(crowd.ended) or all(each.n_arrived >= self.n_before for each in running)
            )
            late = crowd.open(long_request)
            crowd.read_until(lambda: bool(crowd.ended))
            # Each stream's gap that the prompt's end lies in has to be whole.
            n_had = [each.n_arrived for each in running]
            crowd.read_until(
                lambda: (
                    any(each.over for each in running)
                    or all(each.n_arrived > had for each, had in zip(running, n_had, strict=True))
                )
            )
            if any(each.over for each in running) or not late.over:
                over = next(each for each in (*running, late) if each.over)
                raise LoadError(f"a stream ended too soon: {over.failure or over.response.body[-300:]!r}")
            budget = _budget_ms(port)  # while they all run: it depends on how many do
        sample = read_answer(late)
        begin, end = late.sent_ns, sample.end_ns
        times = [text_times(each) for each in running]
        gaps = [
            (after - before) / 1e6
            for each in times
            for before, after in pairwise(each)
            if after > begin and before < end
        ]
        during = sum(begin <= at < end for each in times for at in each) / (end - begin)
        # The start, where the streams' own prompts still take turns, is left out.
        first = max(each[self.n_before // 4] for each in times)
        idle = sum(first <= at < begin for each in times for at in each) / (begin - first)
        return during / idle, sample.ttft, budget, gaps

    def shortened(self) -> Self:
        return replace(self, prompt_words=self.prompt_words // 4, repeats=1)


@dataclass(frozen=True, slots=True)
class Depth:
    """One long answer: how long each token takes from the engine's clock to the client.

    The two clocks are laid over each other at the token that came fastest, so that the figure is what the
    others took longer than that one.

    Attributes:
        n_tail: The last tokens, of which the figures are.
    """

    max_tokens: int = 30_000
    n_tail: int = 5_000

    def run(self, port: int, seed: int) -> Result:
        ask = asking(self.max_tokens, prompt_words=16, seed=seed)
        body = ask.body(0) | {"timings_per_token": True}
        with opened(port) as crowd:
            exchange = crowd.open(request(port, PATH, body))
            crowd.read_all()
        sample = read_answer(exchange)
        times = list(engine_times(read_events(exchange.response.pieces)))
        if len(times) < self.n_tail:
            raise LoadError(f"only {len(times)} events with timings")
        lags = delays(times)
        tail = lags[-self.n_tail :]
        return Result(
            {
                "frame_p50_ms": percentile(tail, 50),
                "frame_p99_ms": percentile(tail, 99),
                "frame_max_ms": max(tail),
                "early_p99_ms": percentile(lags[100 : 100 + self.n_tail], 99),
                "tokens_per_s": sample.completion_tokens / (sample.total / 1e3),
            },
            {"frame": tail, "gap": sample.gaps[-self.n_tail :]},
        )

    def shortened(self) -> Self:
        return replace(self, max_tokens=self.max_tokens // 10, n_tail=self.n_tail // 10)


@dataclass(frozen=True, slots=True)
class Whole:
    """Answers in one piece, so that nothing but the server runs: what a token takes by the client's clock.

    An answer of one token behind as long a prompt tells what is not the other tokens' time.

    Attributes:
        ask: With the number of tokens.
        repeats: Pairs of a long answer and a short one.
    """

    ask: Ask
    repeats: int = 5

    def run(self, port: int, seed: int) -> Result:
        n_tokens = self.ask.max_tokens or 64
        ask = replace(self.ask, seed=seed, max_tokens=n_tokens)
        each = []
        for number in range(0, 2 * self.repeats, 2):
            longer = self._seconds(port, ask, number)
            shorter = self._seconds(port, replace(ask, max_tokens=1), number + 1)
            each.append((longer - shorter) * 1e3 / (n_tokens - 1))
        return Result({"tpot_p50_ms": median(each)})

    def _seconds(self, port: int, ask: Ask, number: int) -> float:
        body = ask.body(number) | {"stream": False}
        body.pop("stream_options", None)
        begin = time.perf_counter()
        answer = post(port, PATH, body)
        seconds = time.perf_counter() - begin
        if answer["usage"]["completion_tokens"] != ask.max_tokens:
            raise LoadError(f"{answer['usage']['completion_tokens']} tokens instead of {ask.max_tokens}")
        return seconds

    def shortened(self) -> Self:
        return replace(self, repeats=1)


def _budget_ms(port: int) -> float:
    try:
        return metric(port, "pyllama:step_budget_seconds") * 1e3
    except LoadError:  # llama-server has no such thing
        return math.nan


def delays(times: Sequence[tuple[float, float]]) -> list[float]:
    """Return by how much each arrival lags behind the engine's clock, the fastest one by nothing.

    ``times``: of each token when it came and the engine's time of it, in ms of clocks that begin anywhere.
    """
    apart = [came - made for came, made in times]
    fastest = min(apart)
    return [each - fastest for each in apart]


def engine_times(events: Iterable[Event]) -> Iterator[tuple[float, float]]:
    """Yield of each event with text when it came and the engine's time of its last token, in ms."""
    for event in events:
        if not event.data.startswith(b"{"):
            continue
        chunk = json.loads(event.data)
        delta = chunk["choices"][0]["delta"] if chunk.get("choices") else {}
        if "timings" in chunk and (delta.get("content") or delta.get("reasoning_content")):
            yield event.time_ns / 1e6, chunk["timings"]["predicted_ms"]
