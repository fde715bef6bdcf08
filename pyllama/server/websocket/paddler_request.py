"""Paddler's requests as ours, by renaming members: what they hold is decoded once, in the core.

Members that Paddler does not know are ours, and pass.
"""

from __future__ import annotations

import json
import re

from pyllama.errors import InvalidRequestError
from pyllama.server.websocket.protocol import join_members, quoted, text_member

__all__ = ["history_request", "raw_request"]

# Characters of a grammar, which is decoded here; what the core takes is less.
_MAX_GRAMMAR = 1 << 18


def history_request(members: dict[str, bytes]) -> bytes:
    """Return the chat request for the members of a ContinueFromConversationHistory."""
    body = _without_null(members)
    _rename(body, "conversation_history", "messages")
    thinks = body.pop("enable_thinking", None)
    if thinks is not None:
        if thinks not in (b"true", b"false"):
            raise InvalidRequestError("'enable_thinking' must be true or false", param="enable_thinking")
        body.setdefault("chat_template_kwargs", b'{"enable_thinking":' + thinks + b"}")
    _take_grammar(body)
    return join_members(body)


def raw_request(members: dict[str, bytes]) -> bytes:
    """Return the completion request for the members of a ContinueFromRawPrompt."""
    body = _without_null(members)
    _rename(body, "raw_prompt", "prompt")
    if not body["prompt"].startswith(b'"'):
        raise InvalidRequestError("'raw_prompt' must be a string", param="raw_prompt")
    _take_grammar(body)
    return join_members(body)


def _without_null(members: dict[str, bytes]) -> dict[str, bytes]:
    return {name: value for name, value in members.items() if value != b"null"}


def _rename(body: dict[str, bytes], theirs: str, ours: str) -> None:
    if theirs not in body:
        raise InvalidRequestError(f"'{theirs}' is required", param=theirs)
    body[ours] = body.pop(theirs)


def _take_grammar(body: dict[str, bytes]) -> None:
    raw = body.pop("grammar", None)
    if raw is None:
        return
    from pyllama._core import _llama

    members = _llama.json_members(raw)
    kind = text_member(members, "type", 64)
    if kind == "gbnf":
        body["grammar"] = quoted(_gbnf(members))
    elif kind == "json_schema":
        body["json_schema"] = _schema(members)
    else:
        raise InvalidRequestError("'grammar.type' must be gbnf or json_schema", param="grammar")


def _gbnf(members: dict[str, bytes]) -> str:
    text = text_member(members, "grammar", _MAX_GRAMMAR)
    root = text_member(members, "root", 256) or "root"
    if not text:
        raise InvalidRequestError("'grammar.grammar' is required", param="grammar")
    if root == "root":
        return text
    if not re.fullmatch("[a-zA-Z][a-zA-Z0-9-]*", root):
        raise InvalidRequestError(f"'grammar.root' is no rule's name: {root!r}", param="grammar")
    if re.search(r"^[ \t]*root[ \t]*::=", text, re.MULTILINE):
        raise InvalidRequestError(
            f"the grammar has a rule named root, but is to begin with {root!r}: rename one", param="grammar"
        )
    return f"{text}\nroot ::= {root}\n"


def _schema(members: dict[str, bytes]) -> bytes:
    text = text_member(members, "schema", _MAX_GRAMMAR)
    try:
        return json.dumps(json.loads(text or "")).encode()
    except (ValueError, RecursionError):
        raise InvalidRequestError(
            "'grammar.schema' must be a JSON schema, as a string", param="grammar"
        ) from None
