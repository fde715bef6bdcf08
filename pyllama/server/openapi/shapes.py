"""Short names for JSON Schema, so that a field is a line."""

from __future__ import annotations

from typing import Any

__all__ = [
    "ANY",
    "BOOLEAN",
    "NUMBER",
    "STRING",
    "Schema",
    "array",
    "choice",
    "integer",
    "nullable",
    "number",
    "one_of",
    "record",
    "ref",
]

Schema = dict[str, Any]

ANY: Schema = {}
STRING: Schema = {"type": "string"}
BOOLEAN: Schema = {"type": "boolean"}
NUMBER: Schema = {"type": "number"}

_INT32_MAX = 2**31 - 1


def integer(least: int = -(2**31), most: int = _INT32_MAX, text: str = "") -> Schema:
    """Return an integer between two bounds, both allowed."""
    return _with_text({"type": "integer", "minimum": least, "maximum": most}, text)


def number(least: float, most: float, text: str = "") -> Schema:
    """Return a number between two bounds, both allowed."""
    return _with_text({"type": "number", "minimum": least, "maximum": most}, text)


def choice(*values: str) -> Schema:
    """Return one of a few strings."""
    return {"type": "string", "enum": list(values)}


def array(items: Schema, least: int = 0, most: int | None = None) -> Schema:
    """Return a list."""
    bounds: Schema = {"minItems": least} if least else {}
    if most is not None:
        bounds["maxItems"] = most
    return {"type": "array", "items": items, **bounds}


def record(required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    """Return an object; members that are not named are allowed, and ignored."""
    properties = {**required, **(optional or {})}
    schema: Schema = {"type": "object", "properties": properties}
    if required:
        schema["required"] = list(required)
    return schema


def one_of(*schemas: Schema) -> Schema:
    """Return what fits one of the schemas or more."""
    return {"anyOf": list(schemas)}


def nullable(schema: Schema) -> Schema:
    """Return the schema, or null, which counts as absent."""
    return one_of(schema, {"type": "null"})


def ref(name: str) -> Schema:
    """Return a reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def _with_text(schema: Schema, text: str) -> Schema:
    return {**schema, "description": text} if text else schema
