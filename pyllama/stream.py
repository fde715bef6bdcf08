"""The answer to one in-process request: typed deltas as they come, or all of it at the end."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from pyllama.loop import StreamReader

__all__ = [
    "Completion",
    "Delta",
    "Stream",
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
class Delta:
    """What is new since the last delta; the last one brings ``finish_reason``, ``usage`` and ``timings``."""

    content: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: str | None = None
    stop_string: str | None = None
    usage: Usage | None = None
    timings: Timings | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer."""

    id: str
    content: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: str | None = None
    stop_string: str | None = None
    usage: Usage = field(default_factory=Usage)
    timings: Timings = field(default_factory=Timings)


class Stream:
    """The running answer to one request. Iterate it once, or await ``result()``.

    ``async with stream`` cancels the request when the block is left before the end. Belongs to the event loop
    of its engine.
    """

    def __init__(self, reader: StreamReader, n_prompt_tokens: int) -> None:
        self._reader = reader
        self._deltas = self._read_deltas()
        self.id: str = reader.stream.id
        self.n_prompt_tokens = n_prompt_tokens

    def __aiter__(self) -> AsyncIterator[Delta]:
        return self._deltas

    async def result(self) -> Completion:
        """Return the whole answer: what has not been iterated yet is awaited.

        Raises:
            PyllamaError: The request failed.
        """
        return _collect(self.id, [delta async for delta in self._deltas])

    def cancel(self) -> None:
        """End the request before its next token; idempotent. Iteration then ends."""
        self._reader.stream.cancel()

    async def aclose(self) -> None:
        """Cancel the request if it still runs, and let go of the stream; idempotent."""
        if self._reader.stream.state != "finished":
            self._reader.stream.cancel()
        await self._deltas.aclose()
        self._reader.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _read_deltas(self) -> AsyncGenerator[Delta, None]:
        try:
            async for chunk in self._reader:
                for line in chunk.splitlines():
                    if line:
                        value = json.loads(line)
                        if value["type"] in _DELTA_LINES:
                            yield _parse(value)
            error = self._reader.stream.error
            if error is not None:
                raise error
        finally:
            self._reader.close()


# Of the lines of the core's "deltas" dialect; an error raises when the stream has ended.
_DELTA_LINES = frozenset({"delta", "finish"})


def _parse(line: Mapping[str, Any]) -> Delta:
    usage = line.get("usage")
    timings = line.get("timings")
    return Delta(
        content=line.get("content", ""),
        reasoning=line.get("reasoning", ""),
        tool_calls=tuple(_parse_tool_call(call) for call in line.get("tool_calls", ())),
        logprobs=tuple(_parse_logprob(entry) for entry in line.get("logprobs", ())),
        finish_reason=line.get("finish_reason"),
        stop_string=line.get("stop_string"),
        usage=None if usage is None else _parse_usage(usage),
        timings=None if timings is None else _parse_timings(timings),
    )


def _parse_tool_call(call: Mapping[str, Any]) -> ToolCallDelta:
    function = call["function"]
    return ToolCallDelta(
        index=call["index"],
        id=call.get("id"),
        name=function.get("name"),
        arguments=function["arguments"],
    )


def _parse_logprob(entry: Mapping[str, Any]) -> TokenLogprob:
    return TokenLogprob(
        id=entry["id"],
        token=entry["token"],
        bytes=bytes(entry["bytes"]),
        logprob=entry["logprob"],
        top=tuple(_parse_logprob(other) for other in entry.get("top_logprobs", ())),
    )


def _parse_usage(usage: Mapping[str, Any]) -> Usage:
    return Usage(
        prompt_tokens=usage["prompt_tokens"],
        completion_tokens=usage["completion_tokens"],
        total_tokens=usage["total_tokens"],
        cached_tokens=usage["prompt_tokens_details"]["cached_tokens"],
        reasoning_tokens=usage["completion_tokens_details"]["reasoning_tokens"],
    )


def _parse_timings(timings: Mapping[str, Any]) -> Timings:
    return Timings(**{name: timings[name] for name in Timings.__slots__})


class _CallParts:
    """One tool call while it is put together."""

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []


def _collect(completion_id: str, deltas: Sequence[Delta]) -> Completion:
    calls: dict[int, _CallParts] = {}
    for piece in (piece for delta in deltas for piece in delta.tool_calls):
        parts = calls.setdefault(piece.index, _CallParts())
        parts.id = piece.id or parts.id
        parts.name = piece.name or parts.name
        parts.arguments.append(piece.arguments)
    last = deltas[-1] if deltas else Delta()
    return Completion(
        id=completion_id,
        content="".join(delta.content for delta in deltas),
        reasoning="".join(delta.reasoning for delta in deltas),
        tool_calls=tuple(
            ToolCall(parts.id, parts.name, "".join(parts.arguments)) for _, parts in sorted(calls.items())
        ),
        logprobs=tuple(entry for delta in deltas for entry in delta.logprobs),
        finish_reason=last.finish_reason,
        stop_string=last.stop_string,
        usage=last.usage or Usage(),
        timings=last.timings or Timings(),
    )
