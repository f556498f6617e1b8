"""Examples of answers, made from their schemas: a schema of the document goes in, a value that fits it comes out.

A field's own example comes first; else its default, the first of its possible values, or one of its type and format.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_OF_FORMAT = {
    "uuid": "0d7d2a0e-6f3c-4b6e-9c6b-3a1f0f6d5c11",
    "date-time": "2026-05-04T09:00:00Z",
    "date": "2026-05-04",
    "uri": "https://example.com/",
    "email": "ann@example.com",
}
_OF_TYPE: Mapping[str, Any] = {"string": "text", "integer": 1, "number": 0.5, "boolean": True, "null": None}


def example_of(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:
    """A value that fits the schema; `schemas` are those that it refers to by name."""
    if "$ref" in schema:
        return example_of(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    for known in ("examples", "enum"):
        if schema.get(known):
            return schema[known][0]
    for known in ("example", "const", "default"):
        if schema.get(known) is not None:
            return schema[known]
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return example_of(schema[several][0], schemas)
    kind = schema.get("type", "object")
    if kind == "array":
        return [example_of(schema.get("items", {}), schemas)]
    if kind == "object":
        fields = schema.get("properties", {})
        further = schema.get("additionalProperties")
        if not fields and isinstance(further, Mapping) and further:
            names = schema.get("propertyNames", {"const": "name"})
            return {example_of(names, schemas): example_of(further, schemas)}
        return {name: example_of(field, schemas) for name, field in fields.items()}
    if kind in ("integer", "number") and "minimum" in schema:
        return schema["minimum"]
    return _OF_FORMAT.get(schema.get("format", ""), _OF_TYPE[kind])
