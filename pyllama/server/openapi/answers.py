"""Schemas of answers: what a client may count on, not every member."""

from __future__ import annotations

from pyllama.server.openapi.shapes import (
    BOOLEAN,
    NUMBER,
    STRING,
    Schema,
    array,
    choice,
    integer,
    nullable,
    one_of,
    record,
    ref,
)

__all__ = ["ANSWERS"]

_COUNT = integer(0)
_USAGE = record({"prompt_tokens": _COUNT, "total_tokens": _COUNT}, {"completion_tokens": _COUNT})
_VECTOR = one_of(array(NUMBER), STRING, array(array(NUMBER)))

ANSWERS: dict[str, Schema] = {
    "Error": record(
        {
            "error": record(
                {"code": integer(400, 599), "message": STRING, "type": STRING},
                {"param": STRING, "n_prompt_tokens": _COUNT, "n_ctx": _COUNT},
            )
        }
    ),
    # One of a stream's; the stream is text.
    "Event": record({"data": STRING}, {"event": STRING, "id": STRING}),
    "Health": record({"status": choice("ok")}),
    "ChatCompletion": record(
        {
            "id": STRING,
            "object": choice("chat.completion"),
            "created": _COUNT,
            "model": STRING,
            "choices": array(
                record(
                    {
                        "index": _COUNT,
                        "finish_reason": STRING,
                        "message": record(
                            {"role": choice("assistant")},
                            {"content": nullable(STRING), "reasoning_content": STRING},
                        ),
                    }
                ),
                1,
            ),
            "usage": _USAGE,
        }
    ),
    "Completion": record(
        {
            "id": STRING,
            "object": choice("text_completion"),
            "choices": array(record({"index": _COUNT, "text": STRING, "finish_reason": nullable(STRING)}), 1),
        }
    ),
    "NativeCompletion": one_of({"type": "object"}, array({"type": "object"}, 1)),
    "ControlResult": record(
        {"success": BOOLEAN},
        {
            "message": STRING,
            "applied": BOOLEAN,
            "state": choice("queued", "prefill", "reasoning", "content", "finished"),
            "queue_position": _COUNT,
            "paused": BOOLEAN,
            "position": nullable(_COUNT),
            "event_id": nullable(_COUNT),
            "choices": array({"type": "object"}),
        },
    ),
    "Embeddings": record(
        {
            "object": choice("list"),
            "model": STRING,
            "data": array(record({"object": choice("embedding"), "index": _COUNT, "embedding": _VECTOR}), 1),
            "usage": _USAGE,
        }
    ),
    "NativeEmbeddings": array(record({"index": _COUNT, "embedding": _VECTOR}), 1),
    "Ranks": one_of(
        record(
            {"object": choice("list"), "results": array(record({"index": _COUNT, "relevance_score": NUMBER}))}
        ),
        array(record({"index": _COUNT, "score": NUMBER})),
    ),
    "Streams": array(
        record(
            {
                "conversation_id": STRING,
                "is_done": BOOLEAN,
                "total_bytes": _COUNT,
                "started_at": _COUNT,
                "completed_at": _COUNT,
            }
        )
    ),
    "Decisions": record(
        {
            "model": STRING,
            "answers": {"type": "object"},
            "usage": record({"input_tokens": _COUNT, "output_tokens": _COUNT}),
        }
    ),
    "Tokens": record(
        {"tokens": array(one_of(_COUNT, record({"id": _COUNT, "piece": one_of(STRING, array(_COUNT))})))}
    ),
    "Text": record({"content": STRING}),
    "Prompt": record({"prompt": STRING}),
    "TokenCount": record({"input_tokens": _COUNT, "object": STRING}),
    "Models": record(
        {
            "object": choice("list"),
            "data": array(
                record(
                    {
                        "id": STRING,
                        "object": choice("model"),
                        "aliases": array(STRING),
                        "tags": array(STRING),
                        "created": _COUNT,
                        "owned_by": STRING,
                        "meta": {"type": "object"},
                        "status": record({"value": choice("loaded", "sleeping")}),
                    }
                ),
                1,
            ),
        }
    ),
    "Props": record(
        {
            "total_slots": _COUNT,
            "model_path": STRING,
            "chat_template": STRING,
            "build_info": STRING,
            "is_sleeping": BOOLEAN,
            "default_generation_settings": {"type": "object"},
            "modalities": {"type": "object"},
        }
    ),
    "Success": record({"success": BOOLEAN}),
    "Slots": array(ref("Slot")),
    "Slot": record(
        {"id": _COUNT, "n_ctx": _COUNT, "is_processing": BOOLEAN, "state": STRING},
        {"id_task": STRING, "params": {"type": "object"}, "next_token": array({"type": "object"})},
    ),
    "LoraAdapters": array(
        record({"id": _COUNT, "path": STRING, "scale": NUMBER, "task_name": STRING, "prompt_prefix": STRING})
    ),
    "SlotAction": record(
        {"id_slot": _COUNT},
        {
            "filename": STRING,
            "n_saved": _COUNT,
            "n_written": _COUNT,
            "n_restored": _COUNT,
            "n_read": _COUNT,
            "n_erased": _COUNT,
            "timings": {"type": "object"},
        },
    ),
    "OpenApi": record({"openapi": STRING, "paths": {"type": "object"}}),
}
