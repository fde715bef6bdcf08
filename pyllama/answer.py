"""What an answer is made of: the values that deltas and whole completions carry."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = [
    "Choice",
    "Completion",
    "ControlResult",
    "Delta",
    "Prefill",
    "Timings",
    "TokenLogprob",
    "ToolCall",
    "ToolCallDelta",
    "Usage",
]


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One token's logprob, in natural logarithms, and its most likely alternatives.

    ``logprob`` is None for a token that was forced, not sampled.
    """

    id: int
    token: str
    bytes: bytes
    logprob: float | None
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a tool call. ``id`` and ``name`` come with its first piece, ``arguments`` is JSON text."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A whole tool call; ``arguments`` is JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a request; ``cached_tokens`` of the prompt were not computed again."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time went: counts of tokens, times in milliseconds."""

    cache_n: int = 0
    prompt_n: int = 0
    prompt_ms: float = 0.0
    predicted_n: int = 0
    predicted_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Prefill:
    """How far the prompt is: counts of tokens, of which ``cached`` were not computed again; milliseconds."""

    total: int
    cached: int
    processed: int
    time_ms: float


@dataclass(frozen=True, slots=True)
class ControlResult:
    """What a control did.

    ``success`` with ``applied`` False: it waits for its moment. ``state`` is where the request is now:
    "queued", "prefill", "reasoning", "content" or "finished", None for one that allows no control.
    ``position`` counts the tokens of the answer before the first one that is concerned, None while nothing
    is. ``queue_position``, of a queued request, counts the requests before it. ``message`` says why there is
    no success. With several choices, ``choices`` has a result for each.
    """

    success: bool
    applied: bool = False
    state: str | None = None
    paused: bool = False
    position: int | None = None
    event_id: int | None = None
    message: str | None = None
    action: str | None = None
    queue_position: int | None = None
    choices: tuple[ControlResult, ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """What is new since the last delta; the last one brings ``finish_reason``, ``usage`` and ``timings``.

    With the option ``return_progress``, deltas with ``prefill`` and nothing else come first.
    ``control`` tells of a control that took effect after all the text before this delta.

    Of ``n`` choices each has deltas of its own: ``index`` says whose, and the usage and timings are its own.
    ``error`` is why a choice failed, beside others that did not: then its ``finish_reason`` is "error".
    """

    content: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: str | None = None
    stop_string: str | None = None
    usage: Usage | None = None
    timings: Timings | None = None
    prefill: Prefill | None = None
    control: ControlResult | None = None
    index: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """One whole answer of a completion; ``error`` is set when it failed and others did not."""

    index: int = 0
    content: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: str | None = None
    stop_string: str | None = None
    usage: Usage = field(default_factory=Usage)
    timings: Timings = field(default_factory=Timings)
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """The answer to a request: ``n`` choices, and for the usual single one its parts at hand.

    ``usage`` is that of all choices together, the prompt counted once. ``timings`` has their tokens and the
    time of the longest.
    """

    id: str
    choices: tuple[Choice, ...] = (Choice(),)
    usage: Usage = field(default_factory=Usage)
    timings: Timings = field(default_factory=Timings)

    @property
    def content(self) -> str:
        """The first choice's text."""
        return self.choices[0].content

    @property
    def reasoning(self) -> str:
        """The first choice's reasoning."""
        return self.choices[0].reasoning

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The first choice's tool calls."""
        return self.choices[0].tool_calls

    @property
    def logprobs(self) -> tuple[TokenLogprob, ...]:
        """The first choice's tokens, when ``logprobs`` were asked for."""
        return self.choices[0].logprobs

    @property
    def finish_reason(self) -> str | None:
        """Why the first choice ended."""
        return self.choices[0].finish_reason

    @property
    def stop_string(self) -> str | None:
        """The stop string that ended the first choice."""
        return self.choices[0].stop_string
