"""The document: which path takes what and answers what."""

from __future__ import annotations

from typing import Any, NamedTuple

from pyllama.server.openapi.answers import ANSWERS
from pyllama.server.openapi.dialects import DIALECTS
from pyllama.server.openapi.requests import REQUESTS
from pyllama.server.openapi.shapes import Schema, choice, integer, ref
from pyllama.version import package_version

__all__ = ["OPERATIONS", "Operation", "build_document"]

_STREAM = "text/event-stream"


class Operation(NamedTuple):
    """One method of one path. ``statuses`` besides ``success``, 400, 401, 408, 413, 500 and 503."""

    method: str
    path: str
    summary: str
    answer: str
    request: str = ""
    streams: bool = False
    statuses: tuple[int, ...] = ()
    media_type: str = "application/json"
    parameters: tuple[Schema, ...] = ()
    success: int = 200


def _query(name: str, schema: Schema, text: str) -> Schema:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": text}


_CONVERSATION = {"type": "string", "minLength": 1, "maxLength": 64}
_CONVERSATION_PATH = {"name": "conv_id", "in": "path", "required": True, "schema": _CONVERSATION}
_CONVERSATION_QUERY = _query("conv_id", _CONVERSATION, "the X-Conversation-Id of the stream's request")
_POSITION = {"type": "integer", "minimum": 0}


def _streams(path: str, conversation: Schema) -> tuple[Operation, ...]:
    position = (
        _query("from", _POSITION, "offset of the first byte wanted"),
        _query("after", _POSITION, "id of the last event had; wins over from"),
    )
    return (
        Operation(
            "get",
            path,
            "Read a conversation's stream, from its first byte or where one left off",
            "",
            statuses=(404,),
            media_type=_STREAM,
            parameters=(conversation, *position),
        ),
        Operation(
            "delete",
            path,
            "Cancel and forget a conversation's stream",
            "",
            parameters=(conversation,),
            success=204,
        ),
    )


def _kept_responses(root: str) -> tuple[Operation, ...]:
    response: Schema = {"name": "response_id", "in": "path", "required": True, "schema": _CONVERSATION}
    stream = (
        _query("stream", {"type": "string", "enum": ["true", "false"]}, "true: its events"),
        _query("starting_after", _POSITION, "sequence_number of the last event had"),
    )
    path = root + "/{response_id}"
    gone = (404,)
    return (
        Operation(
            "get",
            path,
            "Show a response in the background",
            "Response",
            streams=True,
            statuses=gone,
            parameters=(response, *stream),
        ),
        Operation(
            "delete", path, "Cancel and forget a response", "Deleted", statuses=gone, parameters=(response,)
        ),
        Operation(
            "post", path + "/cancel", "Cancel a response", "Response", statuses=gone, parameters=(response,)
        ),
    )


_BUSY = (429,)
_UNSUPPORTED = (501,)


def _generating(paths: str, summary: str, request: str, answer: str) -> list[Operation]:
    return [
        Operation("post", path, summary, answer, request, streams=True, statuses=_BUSY + _UNSUPPORTED)
        for path in paths.split()
    ]


def _asking(paths: str, summary: str, request: str, answer: str) -> list[Operation]:
    return [
        Operation("post", path, summary, answer, request, statuses=_BUSY + _UNSUPPORTED)
        for path in paths.split()
    ]


OPERATIONS: tuple[Operation, ...] = (
    *_generating("/v1/chat/completions /chat/completions", "Answer a chat", "ChatRequest", "ChatCompletion"),
    *_asking("/v1/chat/completions/control", "Steer a running chat", "ControlRequest", "ControlResult"),
    *_asking(
        "/v1/chat/completions/input_tokens /chat/completions/input_tokens",
        "Count a chat's tokens",
        "ChatRequest",
        "TokenCount",
    ),
    *_generating("/v1/completions", "Continue a text, in OpenAI's form", "CompletionRequest", "Completion"),
    *_generating(
        "/completion /completions",
        "Continue a text, in llama-server's form",
        "CompletionRequest",
        "NativeCompletion",
    ),
    *_generating("/v1/responses /responses", "Answer in OpenAI's Responses", "ResponsesRequest", "Response"),
    *_kept_responses("/v1/responses"),
    *_kept_responses("/responses"),
    *_asking(
        "/v1/responses/input_tokens /responses/input_tokens",
        "Count a response's input tokens",
        "ResponsesRequest",
        "TokenCount",
    ),
    *_generating("/v1/messages", "Answer in Anthropic's Messages", "MessagesRequest", "Message"),
    *_asking(
        "/v1/messages/count_tokens", "Count a message's input tokens", "MessagesRequest", "MessageTokenCount"
    ),
    *_generating("/infill", "Fill in code between two texts", "InfillRequest", "NativeCompletion"),
    *_asking("/v1/embeddings", "Make embeddings, in OpenAI's form", "EmbeddingsRequest", "Embeddings"),
    *_asking(
        "/embedding /embeddings",
        "Make embeddings, in llama-server's form",
        "NativeEmbeddingsRequest",
        "NativeEmbeddings",
    ),
    *_asking(
        "/v1/rerank /rerank /v1/reranking /reranking", "Rank texts by a query", "RerankRequest", "Ranks"
    ),
    *_streams("/v1/stream", _CONVERSATION_QUERY),
    *_streams("/v1/stream/{conv_id}", _CONVERSATION_PATH),
    Operation(
        "post", "/v1/streams/lookup", "Say which conversations have a stream", "Streams", "StreamsRequest"
    ),
    *_asking("/v1/systemone", "Answer typed questions about a state", "DecisionRequest", "Decisions"),
    *_asking("/tokenize", "Turn text into tokens", "TokenizeRequest", "Tokens"),
    *_asking("/detokenize", "Turn tokens into text", "DetokenizeRequest", "Text"),
    *_asking("/apply-template", "Turn a chat into a prompt", "ChatRequest", "Prompt"),
    Operation("get", "/health", "Say whether the model is loaded", "Health"),
    Operation("get", "/v1/health", "Say whether the model is loaded", "Health"),
    Operation("get", "/models", "Name the model", "Models"),
    Operation("get", "/v1/models", "Name the model", "Models"),
    Operation("get", "/props", "Show the server's properties", "Props"),
    Operation(
        "post", "/props", "Change the server's properties", "Success", "PropsRequest", statuses=_UNSUPPORTED
    ),
    Operation(
        "get",
        "/slots",
        "Show what each slot does",
        "Slots",
        statuses=_UNSUPPORTED,
        parameters=(
            _query("fail_on_no_slot", {"type": "integer"}, "set to anything: 503 when no slot is idle"),
        ),
    ),
    Operation(
        "post",
        "/slots/{id_slot}",
        "Save, restore or empty a slot, once it is idle",
        "SlotAction",
        "SlotRequest",
        statuses=_UNSUPPORTED + _BUSY,
        parameters=(
            {"name": "id_slot", "in": "path", "required": True, "schema": integer(0, 255)},
            _query("action", choice("save", "restore", "erase"), "what to do"),
        ),
    ),
    Operation("get", "/lora-adapters", "Name the LoRA adapters and their scales", "LoraAdapters"),
    Operation(
        "post", "/lora-adapters", "Change the scales of requests that name none", "Success", "LoraScales"
    ),
    Operation(
        "get", "/metrics", "Show Prometheus metrics", "", statuses=_UNSUPPORTED, media_type="text/plain"
    ),
    *(
        Operation(method, path, "Not enabled", "", statuses=(403,))
        for path in ("/tools", "/cors-proxy")
        for method in ("get", "post")
    ),
    Operation("get", "/openapi.json", "Show this document", "OpenApi"),
)

_ERRORS = {
    400: "The request is wrong; the message names the field.",
    401: "The API key is missing or wrong.",
    403: "The feature is not enabled.",
    404: "There is no such stream or response, or no longer.",
    408: "The body did not arrive in time.",
    413: "The body is larger than --max-body-bytes.",
    429: "The queue is full; Retry-After says when to come back.",
    500: "The server failed; the request was not at fault.",
    501: "The model, or the server as it was started, cannot do this.",
    503: "The model is not loaded yet, the server is shutting down, or no slot is idle.",
}
_ALWAYS = (400, 401, 408, 413, 500, 503)


def build_document(prefix: str = "") -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of a server below ``--api-prefix``."""
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _describe(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "pyllama",
            "version": package_version(),
            "description": "llama-server's endpoints. Fields that a schema does not name are ignored.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": prefix or "/"}],
        "security": [{"bearer": []}, {"header": []}, {}],
        "paths": paths,
        "components": {
            "schemas": {**REQUESTS, **ANSWERS, **DIALECTS},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
            },
        },
    }


def _describe(operation: Operation) -> Schema:
    plain = ref("Event") if operation.media_type == _STREAM else {"type": "string"}
    content = {operation.media_type: {"schema": ref(operation.answer) if operation.answer else plain}}
    if operation.streams:
        content[_STREAM] = {"schema": ref("Event")}
    answer: Schema = {"description": "The answer.", "content": content}
    if operation.success == 204:
        answer = {"description": "Done, or there was nothing to do."}
    responses: Schema = {str(operation.success): answer}
    for status in sorted({*_ALWAYS, *operation.statuses}):
        responses[str(status)] = {
            "description": _ERRORS[status],
            "content": {"application/json": {"schema": ref("Error")}},
        }
    described: Schema = {"summary": operation.summary, "responses": responses}
    if operation.parameters:
        described["parameters"] = list(operation.parameters)
    if operation.request:
        body = {"application/json": {"schema": ref(operation.request)}}
        described["requestBody"] = {"required": True, "content": body}
    return described
