"""Many rows as parameters of one statement: an array for each column.

Dicts go in; the statement reads them as a table. `json_to_recordset` would do it too, but reads each row twice and
builds a hash table for it. That is more work than to find a row of the ledger and to change it. An array is read byte
by byte, which for texts of kilobytes is more work still; those of a column are passed as one text, and split.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LONG_TEXT = "long text"
"""The type of a column whose texts may be long."""


@dataclass(frozen=True)
class RowArrays:
    """A table of the statement: its name, and the SQL type of each column."""

    name: str
    types: Mapping[str, str]

    @property
    def table(self) -> str:
        """What stands behind FROM. Within a SELECT the planner does not count the rows, so it expects few."""
        arrays = ", ".join(f"(SELECT {self._array(column)})" for column in self.types)
        return f"unnest({arrays}) AS {self.name} ({', '.join(self.types)})"

    def _array(self, column: str) -> str:
        parameter = f":{self.name}_{column}"
        if self.types[column] == LONG_TEXT:
            return f"string_to_array(CAST({parameter} AS text), :{self.name}_between, :{self.name}_nothing)"
        return f"CAST({parameter} AS {self.types[column]}[])"

    def parameters(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        """The parameters for these rows. A column that a row does not have is NULL in it.

        A single row whose long text is empty is followed by one of NULLs: PostgreSQL splits an empty text into nothing.
        """
        # No text contains them.
        between, nothing = uuid.uuid4().hex, uuid.uuid4().hex
        found = {}
        for column, type_ in self.types.items():
            values = [row.get(column) for row in rows]
            if type_ == LONG_TEXT:
                text = between.join(nothing if value is None else str(value) for value in values)
                found[f"{self.name}_{column}"] = text or between * len(values)
            else:
                found[f"{self.name}_{column}"] = _array(values)
        if LONG_TEXT in self.types.values():
            found |= {f"{self.name}_between": between, f"{self.name}_nothing": nothing}
        return found


def _array(values: Sequence[Any]) -> str:
    """As PostgreSQL writes an array: https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO."""
    return "{" + ",".join("NULL" if value is None else _quoted(str(value)) for value in values) + "}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
