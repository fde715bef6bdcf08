"""How long to wait between two connections, and when to give up."""

from __future__ import annotations

import random
from dataclasses import dataclass

from pyllama.client.errors import RetriesExhaustedError

__all__ = ["Retries", "RetryPolicy"]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How many connections in a row may bring nothing new, and the least and the longest wait between them.

    Delays are in seconds. Each is cut by up to half at random, so that clients which a server lost together
    do not come back together.
    """

    max_retries: int = 8
    first_delay: float = 0.25
    max_delay: float = 10.0


class Retries:
    """One stream's failures in a row."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._n = 0

    def note_progress(self) -> None:
        """Forget the failures: something new has come."""
        self._n = 0

    def delay(self, failure: BaseException, at_least: float | None = None) -> float:
        """Return the seconds to wait after a failure.

        Raises:
            RetriesExhaustedError: There were too many.
        """
        if self._n >= self._policy.max_retries:
            raise RetriesExhaustedError(f"gave up after {self._n} retries: {failure}") from failure
        delay = min(self._policy.first_delay * 2.0**self._n, self._policy.max_delay)
        self._n += 1
        delay *= random.uniform(0.5, 1.0)
        return delay if at_least is None else max(delay, at_least)
