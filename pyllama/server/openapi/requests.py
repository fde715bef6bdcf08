"""Schemas of request bodies. Fields of other names are accepted and ignored, as llama-server does."""

from __future__ import annotations

from pyllama.server.openapi.shapes import (
    ANY,
    BOOLEAN,
    STRING,
    Schema,
    array,
    choice,
    integer,
    nullable,
    number,
    one_of,
    record,
    ref,
)

__all__ = ["GENERATING", "REQUESTS"]

_TOKEN = integer(0, 2**31 - 1, "a token id of the model")

# Of every request that generates.
_SAMPLING: dict[str, Schema] = {
    "temperature": number(0, 1000),
    "dynatemp_range": number(0, 1000),
    "dynatemp_exponent": number(0, 1000),
    "top_k": integer(0),
    "top_p": number(0, 1),
    "min_p": number(0, 1),
    "typical_p": number(0, 1),
    "top_n_sigma": number(-1000, 1000),
    "xtc_probability": number(0, 1),
    "xtc_threshold": number(0, 1),
    "repeat_last_n": integer(0),
    "repeat_penalty": number(1e-6, 1e6),
    "presence_penalty": number(-1000, 1000),
    "frequency_penalty": number(-1000, 1000),
    "dry_multiplier": number(0, 1000),
    "dry_base": number(0, 1000),
    "dry_allowed_length": integer(0),
    "dry_penalty_last_n": integer(0),
    "mirostat": integer(0, 2),
    "mirostat_tau": number(0, 1000),
    "mirostat_eta": number(0, 1000),
    "adaptive_target": number(-1000, 1),
    "adaptive_decay": number(0, 0.99),
    "min_keep": integer(0),
    "ignore_eos": BOOLEAN,
    "seed": integer(-1, 2**32 - 1, "-1: another one each time"),
    "stop": one_of(STRING, array(STRING, most=16)),
    "samplers": one_of(STRING, array(STRING, most=32)),
}

_SCALES = array(record({"id": integer(0), "scale": number(-1e6, 1e6)}), most=64)

GENERATING: dict[str, Schema] = {
    **_SAMPLING,
    "model": STRING,
    "stream": BOOLEAN,
    "max_tokens": integer(-1, text="-1: until the model ends, or the context is full"),
    "max_completion_tokens": integer(-1),
    "n_predict": integer(-1),
    "n": integer(1, 256, "answers; at most the number of slots"),
    "n_probs": integer(0, 128),
    "t_max_predict_ms": integer(-1),
    "id_slot": integer(-1, 255),
    "priority": integer(-10, 10, "in the queue: higher goes first; at most what --key-priority allows"),
    "n_keep": integer(-1, text="tokens of the prompt that a context shift leaves; -1: all"),
    "n_discard": integer(0, text="tokens that a context shift drops; 0: half of the others"),
    "n_cache_reuse": integer(0, text="least tokens of a cached chunk that is moved; 0: none is"),
    "lora": _SCALES,
    "cache_prompt": BOOLEAN,
    "cache_salt": {
        "type": "string",
        "minLength": 1,
        "maxLength": 256,
        "description": "the prompt is reused only by requests with the same",
    },
    "timings_per_token": BOOLEAN,
    "return_progress": BOOLEAN,
    "sse_ping_interval": integer(-1, text="seconds of silence before a comment line; -1: none"),
    "stream_options": nullable(record({}, {"include_usage": BOOLEAN})),
    "grammar": STRING,
    "json_schema": {"type": "object"},
    "reasoning_budget_tokens": integer(-1),
    "reasoning_budget_soft": integer(-1),
    "reasoning_budget_message": STRING,
    "reasoning_control": BOOLEAN,
}

_TEXT_PART = record({"type": choice("text"), "text": STRING})
_CONTENT = one_of(STRING, array(_TEXT_PART, most=8))
_TOOL_CALL = record(
    {"id": STRING, "type": choice("function"), "function": record({"name": STRING, "arguments": STRING})}
)
_MESSAGE = one_of(
    record({"role": choice("system", "developer", "user"), "content": _CONTENT}, {"name": STRING}),
    record(
        {"role": choice("assistant"), "content": _CONTENT},
        {"reasoning_content": STRING, "tool_calls": array(_TOOL_CALL, most=4)},
    ),
    record({"role": choice("tool"), "content": _CONTENT, "tool_call_id": STRING}),
)
_TOOL = record(
    {
        "type": choice("function"),
        "function": record(
            {"name": {"type": "string", "minLength": 1, "maxLength": 64}},
            {"description": STRING, "parameters": {"type": "object"}},
        ),
    }
)
_RESPONSE_FORMAT = one_of(
    record({"type": choice("text", "json_object")}),
    record({"type": choice("json_schema"), "json_schema": record({"schema": {"type": "object"}})}),
)

_PROMPT = one_of(
    STRING, array(one_of(_TOKEN, STRING), 1, 64), array(one_of(STRING, array(_TOKEN, 1, 64)), 1, 8)
)

_NATIVE: dict[str, Schema] = {
    "return_tokens": BOOLEAN,
    "post_sampling_probs": BOOLEAN,
    "n_indent": integer(0),
    "n_keep": integer(-1),
    "n_discard": integer(0),
    "response_fields": array(STRING, most=16),
    "echo": BOOLEAN,
    "logprobs": integer(0, 128),
}

_QUESTION = one_of(
    record(
        {"type": choice("choice"), "instructions": ANY, "criteria": {"type": "object", "minProperties": 1}}
    ),
    record({"type": choice("score"), "instructions": ANY, "criteria": array(ANY, 2, 10)}),
    record({"type": choice("noul"), "instructions": ANY}, {"criteria": nullable({"type": "object"})}),
)

REQUESTS: dict[str, Schema] = {
    "ChatRequest": record(
        {"messages": array(_MESSAGE, 1, 64)},
        {
            **GENERATING,
            "logprobs": BOOLEAN,
            "top_logprobs": integer(0, 20),
            "tools": array(_TOOL, most=16),
            "tool_choice": choice("auto", "none", "required"),
            "parallel_tool_calls": BOOLEAN,
            "response_format": _RESPONSE_FORMAT,
            "chat_template_kwargs": {"type": "object"},
            "reasoning_effort": STRING,
            "reasoning_format": choice("none", "auto", "deepseek", "deepseek-legacy"),
            "add_generation_prompt": BOOLEAN,
            "continue_final_message": one_of(BOOLEAN, choice("reasoning_content", "content")),
        },
    ),
    "CompletionRequest": record({"prompt": _PROMPT}, {**GENERATING, **_NATIVE}),
    "InfillRequest": record(
        {"input_prefix": STRING, "input_suffix": STRING},
        {
            **GENERATING,
            **_NATIVE,
            "prompt": STRING,
            "input_extra": array(record({"text": STRING}, {"filename": STRING}), most=8),
        },
    ),
    "ControlRequest": record(
        {
            "id": STRING,
            "action": choice(
                "reasoning_end", "reasoning_budget", "pause", "resume", "stop", "sampling", "inject"
            ),
        },
        {
            "choice": integer(0, 127),
            "park": BOOLEAN,
            "text": {"type": "string", "minLength": 1, "maxLength": 65536},
            "tokens": nullable(one_of(integer(-1), {"type": "string", "pattern": r"^\+[0-9]{1,9}$"})),
            **_SAMPLING,
            "max_tokens": integer(-1),
        },
    ),
    "EmbeddingsRequest": record(
        {"input": one_of(ref("Input"), array(ref("Input"), 1, 16))},
        {"model": STRING, "encoding_format": choice("float", "base64"), "embd_normalize": integer(-1, 1024)},
    ),
    "NativeEmbeddingsRequest": record(
        {"content": one_of(ref("Input"), array(ref("Input"), 1, 16))},
        {"model": STRING, "encoding_format": choice("float", "base64"), "embd_normalize": integer(-1, 1024)},
    ),
    "Input": one_of(STRING, array(_TOKEN, 1, 64), record({"content": array(_TEXT_PART, 1, 4)})),
    "RerankRequest": one_of(
        record(
            {"query": STRING, "documents": array(STRING, 1, 16)},
            {"model": STRING, "top_n": integer(0), "return_text": BOOLEAN},
        ),
        record({"query": STRING, "texts": array(STRING, 1, 16)}, {"return_text": BOOLEAN}),
    ),
    "StreamsRequest": record({"conversation_ids": array(STRING, most=64)}),
    "DecisionRequest": record(
        {
            "state": ANY,
            "questions": {"type": "object", "minProperties": 1, "additionalProperties": _QUESTION},
        }
    ),
    "TokenizeRequest": record(
        {"content": one_of(STRING, array(one_of(STRING, _TOKEN), most=64))},
        {"add_special": BOOLEAN, "parse_special": BOOLEAN, "with_pieces": BOOLEAN},
    ),
    "DetokenizeRequest": record({"tokens": array(_TOKEN, most=64)}),
    "LoraScales": _SCALES,
    "SlotRequest": record({}, {"filename": STRING}),
    "PropsRequest": {"type": "object", "additionalProperties": ANY},
}
