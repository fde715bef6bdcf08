"""Schemas of OpenAI's Responses and Anthropic's Messages: bodies and answers."""

from __future__ import annotations

from pyllama.server.openapi.requests import GENERATING
from pyllama.server.openapi.shapes import (
    BOOLEAN,
    STRING,
    Schema,
    array,
    choice,
    integer,
    nullable,
    one_of,
    record,
)

__all__ = ["DIALECTS"]

_COUNT = integer(0)
_OBJECT: Schema = {"type": "object"}
_NAME: Schema = {"type": "string", "minLength": 1, "maxLength": 64}
# These dialects have one answer, and a stop list of their own.
_COMMON = {name: schema for name, schema in GENERATING.items() if name not in ("n", "n_probs", "stop")}

_INPUT_TEXT = record({"type": choice("input_text", "output_text"), "text": STRING})
_INPUT_CONTENT = one_of(STRING, array(_INPUT_TEXT, most=8))
_INPUT_ITEM = one_of(
    record(
        {"role": choice("user", "assistant", "system", "developer"), "content": _INPUT_CONTENT},
        {"type": choice("message")},
    ),
    record(
        {"type": choice("reasoning")},
        {"content": array(record({"text": STRING}), most=4), "summary": array(_OBJECT, most=0)},
    ),
    record({"type": choice("function_call"), "call_id": STRING, "name": STRING, "arguments": STRING}),
    record({"type": choice("function_call_output"), "call_id": STRING, "output": _INPUT_CONTENT}),
)
_TEXT_FORMAT = one_of(
    record({"type": choice("text", "json_object")}),
    record({"type": choice("json_schema"), "schema": _OBJECT}, {"name": STRING, "strict": BOOLEAN}),
)

_TEXT = record({"type": choice("text"), "text": STRING})
_TEXTS = one_of(STRING, array(_TEXT, most=8))
_THINKING = record({"type": choice("thinking"), "thinking": STRING}, {"signature": STRING})
_TOOL_USE = record({"type": choice("tool_use"), "id": STRING, "name": STRING, "input": _OBJECT})
_TOOL_RESULT = record(
    {"type": choice("tool_result"), "tool_use_id": STRING}, {"content": _TEXTS, "is_error": BOOLEAN}
)
_TURN = one_of(
    record({"role": choice("user"), "content": one_of(STRING, array(one_of(_TEXT, _TOOL_RESULT), most=8))}),
    record(
        {
            "role": choice("assistant"),
            "content": one_of(STRING, array(one_of(_TEXT, _THINKING, _TOOL_USE), most=8)),
        }
    ),
)

DIALECTS: dict[str, Schema] = {
    "ResponsesRequest": record(
        {"input": one_of(STRING, array(_INPUT_ITEM, 1, 32))},
        {
            **_COMMON,
            "instructions": nullable(STRING),
            "max_output_tokens": nullable(integer(-1)),
            "metadata": nullable(_OBJECT),
            "reasoning": nullable(record({}, {"effort": nullable(STRING)})),
            "text": record({}, {"format": _TEXT_FORMAT}),
            "tools": array(
                record({"type": choice("function"), "name": _NAME}, {"parameters": _OBJECT}), most=16
            ),
            "tool_choice": choice("auto", "none", "required"),
            "parallel_tool_calls": BOOLEAN,
            "include": array(STRING, most=8),
            "top_logprobs": integer(0, 20),
            "store": BOOLEAN,
            "background": BOOLEAN,
        },
    ),
    "MessagesRequest": record(
        {"messages": array(_TURN, most=32)},
        {
            **_COMMON,
            "system": _TEXTS,
            "stop_sequences": array(STRING, most=16),
            "thinking": record(
                {"type": choice("enabled", "disabled", "adaptive")}, {"budget_tokens": integer(0)}
            ),
            "tools": array(
                record({"name": _NAME}, {"description": STRING, "input_schema": _OBJECT}), most=16
            ),
            "tool_choice": record(
                {"type": choice("auto", "any", "none")}, {"disable_parallel_tool_use": BOOLEAN}
            ),
            "output_config": record(
                {}, {"format": record({"type": choice("json_schema"), "schema": _OBJECT}), "effort": STRING}
            ),
        },
    ),
    "Response": record(
        {
            "id": STRING,
            "object": choice("response"),
            "created_at": _COUNT,
            "status": choice("queued", "in_progress", "completed", "incomplete", "failed", "cancelled"),
            "model": STRING,
            "output": array(record({"type": STRING, "id": STRING})),
        }
    ),
    "Message": record(
        {
            "id": STRING,
            "type": choice("message"),
            "role": choice("assistant"),
            "model": STRING,
            "content": array(record({"type": choice("thinking", "text", "tool_use")})),
            "stop_reason": choice("end_turn", "tool_use", "max_tokens", "stop_sequence"),
            "stop_sequence": nullable(STRING),
            "usage": record({"input_tokens": _COUNT, "output_tokens": _COUNT}),
        }
    ),
    "Deleted": record({"id": STRING, "deleted": BOOLEAN}),
    "MessageTokenCount": record({"input_tokens": _COUNT}),
}
