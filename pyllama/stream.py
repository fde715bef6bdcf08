"""The answer to one in-process request: typed deltas as they come, or all of it at the end."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pyllama.loading import hold_daemon_at_exit

if TYPE_CHECKING:
    from pyllama._core import _llama
    from pyllama.loop import StreamReader

__all__ = [
    "Choice",
    "Completion",
    "ControlResult",
    "Delta",
    "Prefill",
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
    is. ``message`` says why there is no success. With several choices, ``choices`` has a result for each.
    """

    success: bool
    applied: bool = False
    state: str | None = None
    paused: bool = False
    position: int | None = None
    event_id: int | None = None
    message: str | None = None
    action: str | None = None
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


class StreamBase:
    """What is known of a request's answer so far, however it is waited for."""

    def __init__(self, stream: _llama.Stream, n_prompt_tokens: int) -> None:
        self._stream = stream
        self._new: deque[Delta] = deque()
        self._seen: list[Delta] = []
        self.id: str = stream.id
        self.n_prompt_tokens = n_prompt_tokens

    def cancel(self) -> None:
        """End the request before its next token; idempotent. Iteration then ends. Any thread may call it."""
        self._stream.cancel()

    def _cancel_unfinished(self) -> None:
        if self._stream.state != "finished":
            self._stream.cancel()

    def _add(self, chunk: bytes) -> None:
        for line in chunk.splitlines():
            if line:
                value = json.loads(line)
                if value["type"] in _DELTA_LINES:
                    self._new.append(_parse(value))

    def _take(self) -> Delta:
        delta = self._new.popleft()
        self._seen.append(delta)
        return delta

    def _raise_error(self) -> None:
        error = self._stream.error
        if error is not None:
            hold_daemon_at_exit()
            raise error


class Stream(StreamBase):
    """The running answer to one request. Iterate it once, or await ``result()``.

    Leaving the ``async for`` before the end, by ``break``, an exception or the task's cancellation, cancels
    the request before its next token; so does dropping the stream. Only an async generator of one's own
    around the loop is closed later, by its event loop: there, use ``contextlib.aclosing``.

    Belongs to the event loop of its engine.
    """

    def __init__(self, reader: StreamReader, n_prompt_tokens: int) -> None:
        super().__init__(reader.stream, n_prompt_tokens)
        self._reader = reader
        self._left = False

    def __aiter__(self) -> AsyncIterator[Delta]:
        return _Iteration(self)

    async def result(self) -> Completion:
        """Return the whole answer: wait for what is missing, and put it together with what was iterated.

        Raises:
            PyllamaError: The request failed.
        """
        async for _ in self:
            pass
        return _collect(self.id, self._seen)

    async def control(self, action: str, **fields: Any) -> ControlResult:
        """Steer the request while it runs, and return what that did.

        It is applied between two tokens, whatever else the engine has to do. Needs
        ``reasoning_control=True`` in ``Engine.chat``; without it, and after the end, the result has
        ``success`` False.

        Args:
            action: "reasoning_end", "reasoning_budget", "pause", "resume", "stop" or "sampling".
            fields: For the budget ``tokens``: a number, ``"+32"`` for more, None for no limit. For sampling
                what is to change: ``temperature``, ``top_p``, ``max_tokens``, ``stop`` and the like. For all
                ``choice``, the index of one of several choices; default all.

        Raises:
            InvalidRequestError: The action is unknown, or a field is wrong.
            EngineBusyError: Too many controls of this request are waiting.
        """
        return parse_control(await self._reader.control(control_request(action, fields)))

    async def aclose(self) -> None:
        """Cancel the request if it still runs, and let go of the stream; idempotent."""
        self._leave()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if hasattr(self, "_reader"):
            self._leave()

    def _leave(self) -> None:
        if not self._left:
            self._left = True
            self._cancel_unfinished()
            self._reader.watch.wake()  # another task may wait for the next delta
            self._reader.close()

    async def _next(self) -> Delta | None:
        reader = self._reader
        try:
            while not self._new and not reader.finished and not self._left:
                if chunk := reader.read():
                    self._add(chunk)
                elif not reader.finished:
                    await reader.watch.wait()
            if self._new:
                return self._take()
            if not self._left:
                self._raise_error()
        except BaseException:
            self._leave()
            raise
        return None


class _Iteration:
    """One ``async for`` over a stream.

    The loop holds the only reference, so leaving it destroys this object at once. An async generator would
    not do: its event loop finalises it at some later time, and trio warns.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delta:
        delta = await self._stream._next()
        if delta is None:
            raise StopAsyncIteration
        return delta

    def __del__(self) -> None:
        self._stream._leave()


# Of the lines of the core's "deltas" dialect; an error raises when the stream has ended.
_DELTA_LINES = frozenset({"delta", "progress", "control", "finish"})


def _parse(line: Mapping[str, Any]) -> Delta:
    usage = line.get("usage")
    timings = line.get("timings")
    prefill = line.get("prompt_progress")
    control = line.get("control")
    error = line.get("error")
    return Delta(
        content=line.get("content", ""),
        reasoning=line.get("reasoning", ""),
        tool_calls=tuple(_parse_tool_call(call) for call in line.get("tool_calls", ())),
        logprobs=tuple(_parse_logprob(entry) for entry in line.get("logprobs", ())),
        finish_reason=line.get("finish_reason"),
        stop_string=line.get("stop_string"),
        usage=None if usage is None else _parse_usage(usage),
        timings=None if timings is None else _parse_timings(timings),
        prefill=None if prefill is None else _parse_prefill(prefill),
        control=None if control is None else _parse_control({"success": control["applied"], **control}),
        index=line.get("index", 0),
        error=None if error is None else error["message"],
    )


def control_request(action: str, fields: Mapping[str, Any]) -> _llama.ControlRequest:
    """Return a control as the core takes it. Raises InvalidRequestError and UnsupportedError."""
    from pyllama._core import _llama

    return _llama.ControlRequest(json.dumps({**fields, "action": action}).encode(), in_process=True)


def parse_control(answer: bytes) -> ControlResult:
    """Return the core's answer to a control."""
    return _parse_control(json.loads(answer))


def _parse_control(value: Mapping[str, Any]) -> ControlResult:
    choices = tuple(_parse_control(choice) for choice in value.get("choices", ()))
    return ControlResult(**{**value, "choices": choices})


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


def _parse_prefill(progress: Mapping[str, Any]) -> Prefill:
    return Prefill(
        total=progress["total"],
        cached=progress["cache"],
        processed=progress["processed"],
        time_ms=progress["time_ms"],
    )


class _CallParts:
    """One tool call while it is put together."""

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []


def _collect(completion_id: str, deltas: Sequence[Delta]) -> Completion:
    by_choice: dict[int, list[Delta]] = {0: []}
    for delta in deltas:
        by_choice.setdefault(delta.index, []).append(delta)
    choices = tuple(_collect_choice(index, own) for index, own in sorted(by_choice.items()))
    if len(choices) == 1:
        return Completion(completion_id, choices, choices[0].usage, choices[0].timings)
    return Completion(
        completion_id,
        choices,
        _total_usage([choice.usage for choice in choices]),
        _total_timings([choice.timings for choice in choices]),
    )


def _collect_choice(index: int, deltas: Sequence[Delta]) -> Choice:
    calls: dict[int, _CallParts] = {}
    for piece in (piece for delta in deltas for piece in delta.tool_calls):
        parts = calls.setdefault(piece.index, _CallParts())
        parts.id = piece.id or parts.id
        parts.name = piece.name or parts.name
        parts.arguments.append(piece.arguments)
    last = deltas[-1] if deltas else Delta()
    return Choice(
        index=index,
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
        error=last.error,
    )


def _total_usage(parts: Sequence[Usage]) -> Usage:
    prompt_tokens = max(part.prompt_tokens for part in parts)
    completion_tokens = sum(part.completion_tokens for part in parts)
    return Usage(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=prompt_tokens + completion_tokens,
        cached_tokens=max(part.cached_tokens for part in parts),
        reasoning_tokens=sum(part.reasoning_tokens for part in parts),
    )


def _total_timings(parts: Sequence[Timings]) -> Timings:
    return Timings(
        cache_n=max(part.cache_n for part in parts),
        prompt_n=max(part.prompt_n for part in parts),
        prompt_ms=max(part.prompt_ms for part in parts),
        predicted_n=sum(part.predicted_n for part in parts),
        predicted_ms=max(part.predicted_ms for part in parts),
    )
