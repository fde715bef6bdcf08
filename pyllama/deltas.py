"""The core's "deltas" dialect, one JSON object a line, as the values of ``pyllama.answer``; and controls."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pyllama.answer import (
    Choice,
    Completion,
    ControlResult,
    Delta,
    Prefill,
    Timings,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    Usage,
)

if TYPE_CHECKING:
    from pyllama._core import _llama

__all__ = ["collect", "control_request", "parse_control", "parse_lines"]

# Lines that become deltas; of the others, an error raises when the stream has ended.
_DELTA_LINES = frozenset({"delta", "progress", "control", "finish"})


def parse_lines(chunk: bytes) -> Iterator[Delta]:
    """Yield the deltas in whole lines of the dialect."""
    for line in chunk.splitlines():
        if line:
            value = json.loads(line)
            if value["type"] in _DELTA_LINES:
                yield _parse(value)


def collect(completion_id: str, deltas: Sequence[Delta]) -> Completion:
    """Put the deltas of all choices together."""
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


def control_request(action: str, fields: Mapping[str, Any]) -> _llama.ControlRequest:
    """Return a control as the core takes it. Raises InvalidRequestError."""
    from pyllama._core import _llama

    return _llama.ControlRequest(json.dumps({**fields, "action": action}).encode(), in_process=True)


def parse_control(answer: bytes) -> ControlResult:
    """Return the core's answer to a control."""
    return _parse_control(json.loads(answer))


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
