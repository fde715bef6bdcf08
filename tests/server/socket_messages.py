"""What clients of a socket say, and what they get, in OpenAI's protocol."""

from __future__ import annotations

from typing import Any

from asgi import Client, Socket


def event(text: str) -> bytes:
    return b'data: {"choices":["%b"],"object":"chat.completion.chunk"}\n\n' % text.encode()


DONE = b"data: [DONE]\n\n"


def create(request_id: str = "r1", **more: Any) -> dict[str, Any]:
    return {"type": "chat.completion.create", "request_id": request_id, "body": {"messages": []}, **more}


def resume(conversation_id: str, after: int | None = None, **more: Any) -> dict[str, Any]:
    return {"type": "resume", "conversation_id": conversation_id, "after": after, **more}


def chunk(request_id: str, event_id: int, text: str) -> dict[str, Any]:
    data = {"choices": [text], "object": "chat.completion.chunk"}
    return {"type": "chat.completion.chunk", "request_id": request_id, "event_id": event_id, "data": data}


def done(request_id: str, event_id: int | None) -> dict[str, Any]:
    return {"type": "done", "request_id": request_id, "event_id": event_id}


async def begin(client: Client, socket: Socket, request_id: str = "r1", **more: Any) -> Any:
    """Start a request; return its stream."""
    n = len(client.engine.streams)
    socket.say(create(request_id, **more))
    stream = (await client.streams(n + 1))[n]
    stream.start()
    return stream
