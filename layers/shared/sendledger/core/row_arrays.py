"""Many rows as parameters of one statement: an array for each column.

Dicts go in; the statement reads them as a table. `json_to_recordset` would do it too, but reads each row twice and
builds a hash table for it. That is more work than to find a row of the ledger and to change it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RowArrays:
    """A table of the statement: its name, and the SQL type of each column."""

    name: str
    types: Mapping[str, str]

    @property
    def table(self) -> str:
        """What stands behind FROM. Within a SELECT the planner does not count the rows, so it expects few."""
        arrays = ", ".join(f"(SELECT CAST(:{self.name}_{column} AS {type_}[]))" for column, type_ in self.types.items())
        return f"unnest({arrays}) AS {self.name} ({', '.join(self.types)})"

    def parameters(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        """The parameters for these rows. A column that a row does not have is NULL in it."""
        return {f"{self.name}_{column}": _array([row.get(column) for row in rows]) for column in self.types}


def _array(values: Sequence[Any]) -> str:
    """As PostgreSQL writes an array: https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO."""
    return "{" + ",".join("NULL" if value is None else _quoted(str(value)) for value in values) + "}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
