"""Writing CSV that spreadsheets only show: rows of values in, UTF-8 bytes out. No database.

A cell that begins with one of `FORMULA_STARTS` would be calculated, or worse, by the spreadsheet that opens the file;
it gets an apostrophe in front. `without_apostrophe` takes it off again when such a file is imported.
https://owasp.org/www-community/attacks/CSV_Injection
"""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections.abc import Iterable, Sequence

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
_ESCAPED = tuple(f"'{start}" for start in FORMULA_STARTS)


def csv_bytes(rows: Iterable[Sequence[object]]) -> bytes:
    """The rows as lines of a file: None is empty, times are ISO 8601 in UTC, texts cannot be formulas."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue().encode()


def without_apostrophe(cells: list[str]) -> list[str]:
    """The cells as they were before `csv_bytes` made them harmless."""
    if any(cell.startswith("'") for cell in cells):
        return [cell[1:] if cell.startswith(_ESCAPED) else cell for cell in cells]
    return cells


def _cell(value: object) -> object:
    if isinstance(value, str):
        return f"'{value}" if value.startswith(FORMULA_STARTS) else value
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
    return value
