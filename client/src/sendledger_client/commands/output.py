"""How results are shown: tables for people, JSON for programs."""

from __future__ import annotations

import datetime as dt
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Protocol
from uuid import UUID

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=100_000, help="Show at most so many, newest first.")]

WIDTH_OF_A_PIPE = 1_000

errors = Console(stderr=True, highlight=False)


# Control characters could move the cursor, change the title or write to the clipboard.
_CONTROLS = re.compile("(?!\r\n)[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_CONTROLS_IN_JSON = re.compile("[\x7f-\x9f]")


def without_controls(text: str) -> str:
    """Text from outside as it may be printed: with a sign in place of each control character."""
    return _CONTROLS.sub("\ufffd", text)


def plain(text: str) -> str:
    """Text from outside for `Console.print`: no control characters, and nothing in it is markup."""
    return escape(without_controls(text))


class Model(Protocol):
    """An object of the generated types."""

    def to_dict(self) -> dict[str, Any]: ...


def as_id(given: str) -> UUID | None:
    """The id that an argument is; a name of 32 hexadecimal digits is a name."""
    try:
        return UUID(given) if len(given) == 36 else None
    except ValueError:
        return None


def console() -> Console:
    # Made when needed, as standard output may be redirected until then. In a file or a pipe each row is one line.
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH_OF_A_PIPE)


def text(value: Any) -> str:
    """A value in a cell."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.2f}"
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {text(each)}" for name, each in value.items()) or "–"
    return str(value)


def show_json(result: Model | Sequence[Model] | Mapping[str, Any]) -> None:
    """One JSON document on standard output."""
    if isinstance(result, Mapping):
        document: Any = dict(result)
    else:
        document = [item.to_dict() for item in result] if isinstance(result, Sequence) else result.to_dict()
    shown = json.dumps(document, indent=2, ensure_ascii=False)
    typer.echo(_CONTROLS_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", shown))


def show_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table; values that come from outside are shown as they are, never as markup."""
    table, shown = Table(box=None, header_style="bold"), list(rows)
    for place, name in enumerate(columns):
        # On a narrow terminal texts are broken and nothing is left out. Ids can be copied, and numbers read.
        is_text = any(isinstance(row[place], str) for row in shown)
        table.add_column(name, overflow="fold", no_wrap=not is_text)
    for row in shown:
        table.add_row(*(plain(text(value)) for value in row))
    console().print(table if table.row_count else "Nothing was found.")


def show_fields(fields: Mapping[str, Any], title: str | None = None) -> None:
    """The fields of one thing."""
    table = Table(show_header=False, box=None)
    for name, value in fields.items():
        table.add_row(plain(name), plain(text(value)))
    if title is not None:
        console().print(plain(title), style="bold", soft_wrap=True)
    console().print(table)
