"""Rows reach a statement as they are, whatever their texts contain."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import sqlalchemy as sa

from sendledger.core.row_arrays import LONG_TEXT, RowArrays

ROWS = RowArrays(
    "r", {"id": "bigint", "name": "text", "body": LONG_TEXT, "key": "uuid", "is_new": "boolean", "detail": "jsonb"}
)


def read_back(connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found = connection.execute(sa.text(f"SELECT * FROM {ROWS.table}"), ROWS.parameters(rows))
    return [dict(row) for row in found.mappings()]


@pytest.mark.parametrize(
    "name", ["", "NULL", "null", '"', "\\", '\\"', "{a,b}", ",", " a ", "line\nend", "\t", "é😀", "'", "%s :id $1"]
)
def test_text_is_read_as_it_was_given(connection: sa.Connection, name: str) -> None:
    rows = [{"id": number, "name": name, "body": name} for number in (1, 2)]
    assert [(row["name"], row["body"]) for row in read_back(connection, rows)] == [(name, name)] * 2


def test_single_row_with_an_empty_long_text_is_there(connection: sa.Connection) -> None:
    assert [row["body"] for row in read_back(connection, [{"id": 1, "body": ""}]) if row["id"] is not None] == [""]


def test_missing_long_text_is_null(connection: sa.Connection) -> None:
    rows: list[dict[str, Any]] = [{"id": 1, "body": "a"}, {"id": 2}, {"id": 3, "body": ""}]
    assert [row["body"] for row in read_back(connection, rows)] == ["a", None, ""]


def test_row_keeps_its_types_and_order(connection: sa.Connection) -> None:
    key = uuid.uuid4()
    first: dict[str, Any] = {
        "id": 2**63 - 1,
        "name": "a",
        "body": "b",
        "key": key,
        "is_new": False,
        "detail": {"text": 'x"\\'},
    }
    rows = [first | {"detail": '{"text": "x\\"\\\\"}'}, {"id": 2, "is_new": True}]
    nothing = dict.fromkeys(ROWS.types)
    assert read_back(connection, rows) == [first, nothing | {"id": 2, "is_new": True}]


def test_no_rows_are_no_rows(connection: sa.Connection) -> None:
    assert read_back(connection, []) == []
