"""What one request measured."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pyllama.loadtest.exchange import Exchange, Failure
from pyllama.loadtest.wire import read_events

__all__ = ["Refusal", "Sample", "read_exchange", "retry_after", "text_times"]

_TEXTS = ("content", "reasoning_content", "reasoning", "refusal", "tool_calls")
_WORDS = 300  # characters of a server's own words that are kept


@dataclass(frozen=True, slots=True)
class Sample:
    """One answered request. Times in milliseconds, from when the request was due.

    Attributes:
        late: Until it was sent: what this side added.
        ttft: Until the arrival of the first event with text.
        gaps: Between the arrivals of one event with text and the next.
        total: Until the arrival of the last event with text.
        counted: Whether the server gave no usage, so that tokens are events with text.
        server: The server's own prompt and decode time together; NaN when it gave no timings.
        step: The server's own time per decoded token; NaN likewise.
    """

    number: int
    start_ns: int
    end_ns: int
    late: float
    ttft: float
    gaps: list[float]
    total: float
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    counted: bool
    finish_reason: str
    server: float
    step: float
    n_tries: int

    @property
    def tpot(self) -> float:
        """Milliseconds per token behind the first."""
        return (
            (self.total - self.ttft) / (self.completion_tokens - 1)
            if self.completion_tokens > 1
            else math.nan
        )


@dataclass(frozen=True, slots=True)
class Refusal:
    """One request that was not answered, or not to its end.

    Attributes:
        retry_after: Seconds that the server said to wait; NaN if it said nothing.
    """

    number: int
    start_ns: int
    failure: Failure
    retry_after: float
    completion_tokens: int
    n_tries: int


def read_exchange(exchange: Exchange) -> Sample | Refusal:
    """Say what an exchange that is over came to."""
    failure = exchange.failure
    response = exchange.response
    if failure is None and response.status != 200:
        failure = Failure(f"status {response.status}", _words(response.body))
    reading = _Reading()
    if response.status == 200:
        trouble = reading.read(exchange)
        failure = failure or trouble
    if failure is not None:
        return Refusal(
            exchange.number,
            exchange.due_ns,
            failure,
            retry_after(exchange),
            len(reading.times),
            exchange.n_tries,
        )
    return reading.sample(exchange)


def text_times(exchange: Exchange) -> list[int]:
    """Return when each event with text came, in nanoseconds, of an answer that need not be over."""
    reading = _Reading()
    reading.read(exchange)
    return reading.times


def retry_after(exchange: Exchange) -> float:
    """Return the seconds after which a refused request may come again, NaN where none are named."""
    if exchange.response.status not in (429, 503):
        return math.nan
    value = exchange.response.headers.get("retry-after", "")
    return float(value) if value.isascii() and value.isdigit() and len(value) < 7 else math.nan


class _Reading:
    """The events of an answer."""

    def __init__(self) -> None:
        self.times: list[int] = []
        self.usage: dict[str, Any] = {}
        self.timings: dict[str, Any] = {}
        self.finish_reason = ""

    def read(self, exchange: Exchange) -> Failure | None:
        """Read all events; return what is wrong with them."""
        ended = False
        for event in read_events(exchange.response.pieces):
            if event.data == b"[DONE]":
                ended = True
                continue
            try:
                chunk = json.loads(event.data)
                if error := chunk.get("error"):
                    return Failure(
                        "error", _words(error.get("message") if isinstance(error, dict) else error)
                    )
                self._take(chunk, event.time_ns)
            except (ValueError, AttributeError, TypeError, KeyError, RecursionError):
                return Failure("garbage", f"an event that is no chunk: {_words(event.data)}")
        if not ended and not self.finish_reason:
            kind = exchange.response.headers.get("content-type", "")
            if not kind.startswith("text/event-stream"):
                return Failure("garbage", f"no event stream, but {kind or 'nothing that says what it is'}")
            return Failure("cut", "the answer ended without a finish reason")
        if not self.times:
            return Failure("empty", "an answer without text")
        return None

    def _take(self, chunk: dict[str, Any], time_ns: int) -> None:
        self.usage = dict(chunk.get("usage") or self.usage)
        self.timings = dict(chunk.get("timings") or self.timings)
        has_text = False
        for choice in chunk.get("choices") or []:
            delta = choice.get("delta") or {}
            has_text = has_text or any(delta.get(name) for name in _TEXTS)
            self.finish_reason = str(choice.get("finish_reason") or self.finish_reason)[:_WORDS]
        if has_text:
            self.times.append(time_ns)

    def sample(self, exchange: Exchange) -> Sample:
        times, usage = self.times, self.usage
        details = usage.get("prompt_tokens_details")
        counted = "completion_tokens" not in usage
        return Sample(
            number=exchange.number,
            start_ns=exchange.due_ns,
            end_ns=times[-1],
            late=(exchange.sent_ns - exchange.due_ns) / 1e6,
            ttft=(times[0] - exchange.due_ns) / 1e6,
            gaps=[(after - before) / 1e6 for before, after in pairwise(times)],
            total=(times[-1] - exchange.due_ns) / 1e6,
            prompt_tokens=_count(usage.get("prompt_tokens")),
            cached_tokens=_count(details.get("cached_tokens")) if isinstance(details, dict) else 0,
            completion_tokens=len(times) if counted else _count(usage["completion_tokens"]),
            counted=counted,
            finish_reason=self.finish_reason,
            server=_number(self.timings.get("prompt_ms")) + _number(self.timings.get("predicted_ms")),
            step=_number(self.timings.get("predicted_per_token_ms")),
            n_tries=exchange.n_tries,
        )


def _number(value: object) -> float:
    try:
        return float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        return math.nan


def _count(value: object) -> int:
    number = _number(value)
    return int(number) if 0 <= number < 2**53 else 0


def _words(value: object) -> str:
    """Return a server's own words on one line: of its error envelope, if it is one."""
    if isinstance(value, bytes):
        text = value[:100_000].decode("utf-8", "replace")
        try:
            error = json.loads(text)["error"]
            value = error["message"] if isinstance(error, dict) else error
        except (ValueError, KeyError, TypeError, RecursionError):
            value = text
    words = " ".join(str(value).split())
    return words if len(words) <= _WORDS else words[: _WORDS - 1] + "…"
