"""The edge values of the types that the old application's columns have."""

from __future__ import annotations

from testbed.legacy_database import SCHEMA

DEEP = 3_000
EDGES: dict[str, tuple[str, ...]] = {
    "timestamp": (
        "infinity",
        "-infinity",
        "294276-12-31 23:59:59.999999",
        "10000-01-01 00:00:00",
        "9999-12-31 23:59:59.999999",
        "0001-01-01 00:00:00",
        "0044-03-15 00:00:00 BC",
        "4713-01-01 00:00:00 BC",
        "1999-12-31 23:59:59.5",
    ),
    "date": ("infinity", "-infinity", "5874897-12-31", "0001-01-01", "4713-01-01 BC"),
    "integer": ("0", "-1", "2147483647", "-2147483648"),
    "numeric": ("NaN", "0", "-9.99", "9.99"),
    "boolean": ("true", "false"),
    "uuid": ("00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
    "jsonb": (
        "null",
        "true",
        "0",
        "1e400",
        "1e-400",
        "1e400.5".replace(".5", ""),
        "9" * 5_000,
        f"{'9' * 400}.5",
        '""',
        '"text"',
        "[]",
        '[null, 1, {"a": []}]',
        "{}",
        '{"": null, "first_name": 5, "last_name": {"a": [1]}, "plan": [1, null], "n": 1e400}',
        "[" * DEEP + "]" * DEEP,
    ),
    "text": ("", " ", "\t\n\x01\x7f\x85", "\u202e\U0001f600\ufeff\u2028", "{{ nothing }} {% if %} {#", "NULL", "=1+1"),
    "array": ("{}", "{NULL}", "{NULL,a,NULL}", "{{a,b},{c,NULL}}", "[0:1]={a,b}", '{"",NULL,"a,\\"b"}'),
}


def edge_values(type_: str) -> list[str]:
    """Every edge value of a type of the old application, as PostgreSQL reads it."""
    type_ = type_.replace("character varying", "varchar").removesuffix(" without time zone")
    if type_ in SCHEMA["enums"]:
        return list(SCHEMA["enums"][type_])
    if type_.endswith("[]"):
        return list(EDGES["array"])
    if type_.startswith("varchar"):
        width = int(type_[8:-1])
        return [value[:width] for value in EDGES["text"]] + ["x" * width]
    if type_ == "text":
        return [*EDGES["text"], "x" * 100_000]
    return list(EDGES[type_.split("(")[0]])
