"""What is asked, and when: the requests of a load, and how they are spread over time."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyllama.loadtest.words import prompt, random_words

__all__ = ["Ask", "Load", "PromptFileError", "read_prompts"]


class PromptFileError(ValueError):
    """A file of prompts that cannot be read."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What each request asks for.

    Attributes:
        prompt_words: Length of each prompt; about as many tokens with a BPE vocabulary.
        shared_words: How many words at the start all prompts share.
        system_words: Length of a system message that all requests share.
        max_tokens: None leaves it to the server.
        fields: More fields of each body.
        prompts: Bodies' fields by request, over and over, instead of words.
        seed: Of the words; another seed shares none with this one.
    """

    prompt_words: int = 32
    shared_words: int = 0
    system_words: int = 0
    max_tokens: int | None = 64
    fields: Mapping[str, Any] = field(default_factory=dict)
    prompts: Sequence[Mapping[str, Any]] = ()
    seed: int = 1

    def body(self, number: int) -> dict[str, Any]:
        """Return the body of request `number`: a streamed chat completion that tells its usage."""
        body: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
        if self.max_tokens is not None:
            body["max_tokens"] = self.max_tokens
        body.update(self.fields)
        if self.prompts:
            body.update(self.prompts[number % len(self.prompts)])
            return body
        messages = []
        if self.system_words:
            messages.append(
                {"role": "system", "content": random_words(self.system_words, f"{self.seed}/system")}
            )
        text = prompt(self.prompt_words, self.shared_words, self.seed, number)
        body["messages"] = [*messages, {"role": "user", "content": text}]
        return body


@dataclass(frozen=True, slots=True)
class Load:
    """Requests over time: a closed loop of users, or with a rate an open one.

    Attributes:
        users: Closed loop: each has one request in flight, and sends the next when it is over.
        rate: Open loop: requests a second, sent when they are due, whatever is in flight.
        poisson: Open loop: whether the times between requests are exponential, else they are equal.
        max_open: Open loop: requests in flight at most; what is due beyond waits, and the wait counts.
        requests: In all; None for as many as `duration_s` has room for.
        duration_s: Seconds in which requests are begun; those in flight then are answered.
        pause_s: Closed loop: seconds a user waits before each request.
        first: The first request's number, so that a load can go on where another one ended.
        n_retries: How often a refused request is sent again after the time that the server names.
    """

    ask: Ask = field(default_factory=Ask)
    users: int = 1
    rate: float | None = None
    poisson: bool = True
    max_open: int = 1000
    requests: int | None = None
    duration_s: float | None = None
    pause_s: float = 0.0
    first: int = 0
    n_retries: int = 0

    @property
    def n_requests(self) -> float:
        """How many requests there are: one a user where nothing else is said."""
        if self.requests is not None:
            return self.requests
        return float("inf") if self.duration_s is not None else self.users

    def arrivals(self) -> Iterator[float]:
        """Yield when the requests of the open loop are due, in seconds from its start, the same each time."""
        assert self.rate is not None
        order = random.Random(f"{self.ask.seed}/arrivals")
        at = 0.0
        number = 0
        while True:
            yield at
            number += 1
            at = at + order.expovariate(self.rate) if self.poisson else number / self.rate


def read_prompts(path: Path) -> list[dict[str, Any]]:
    """Read prompts, one JSON value a line: a text, an object with ``prompt``, or fields of a request's body.

    Raises:
        PromptFileError: A line is none of these, or there is none.
        OSError: The file cannot be read.
    """
    found: list[dict[str, Any]] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as exc:
        raise PromptFileError(f"{path} is not UTF-8: {exc.reason}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as exc:
            raise PromptFileError(f"{path}, line {number}: {exc}") from None
        fields = dict(value) if isinstance(value, dict) else {"prompt": value}
        text = fields.pop("prompt", None)
        if "messages" not in fields and isinstance(text, str):
            fields["messages"] = [{"role": "user", "content": text}]
        if not isinstance(fields.get("messages"), list):
            raise PromptFileError(
                f"{path}, line {number}: neither a text nor an object with prompt or messages"
            )
        found.append(fields)
    if not found:
        raise PromptFileError(f"{path} holds no prompts")
    return found
