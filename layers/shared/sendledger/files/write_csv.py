"""Writing CSV that spreadsheets only show: rows of values in, UTF-8 bytes out. No database.

A spreadsheet runs a cell that begins with one of ``= + - @``, a tab or a line break as a formula. Such a cell gets an
apostrophe in front, which `cells_as_meant` removes when the file is imported. Every text is quoted, so that a program
that splits at semicolons does not read ``a;=1+1`` as two cells.
https://owasp.org/www-community/attacks/CSV_Injection
"""

from __future__ import annotations

import codecs
import csv
import datetime as dt
import io
import re
from collections.abc import Iterable, Sequence

BYTE_ORDER_MARK = codecs.BOM_UTF8
"""At its beginning, it tells Excel that a file is UTF-8."""

# Some spreadsheets read the full-width signs as the others.
_FORMULA = "[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"
_NEEDS_APOSTROPHE = re.compile(f"'*{_FORMULA}")
_ESCAPED = re.compile(f"''*{_FORMULA}")


def csv_bytes(rows: Iterable[Sequence[object]]) -> bytes:
    """The rows as lines of a file: None is empty, times are ISO 8601 in UTC, texts cannot be formulas."""
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_NONNUMERIC).writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue().encode()


def cells_as_meant(cells: list[str]) -> list[str]:
    """The cells as they were before `csv_bytes` made them harmless, and before a spreadsheet kept zeros by ="0044"."""
    together = "".join(cells)
    if "'" in together or '="' in together:  # few rows have one, and every row of an import is asked
        return [_as_meant(cell) for cell in cells]
    return cells


def _as_meant(cell: str) -> str:
    if _ESCAPED.match(cell):
        return cell[1:]
    if cell.startswith('="') and cell.endswith('"') and len(cell) > 2:
        return cell[2:-1].replace('""', '"')
    return cell


def _cell(value: object) -> object:
    if isinstance(value, str):
        return f"'{value}" if _NEEDS_APOSTROPHE.match(value) else value
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
    return "" if value is None else value
