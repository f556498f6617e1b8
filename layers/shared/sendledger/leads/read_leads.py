"""Reading leads from a CSV file: a binary stream in, a lead or an error for each of its rows out. No database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import RawIOBase
from typing import Any, BinaryIO

from sendledger.files.read_csv import Record, RowError, read_csv
from sendledger.files.write_csv import without_apostrophe
from sendledger.leads.lead_columns import LeadColumns, has_address, read_header
from sendledger.leads.lead_values import BadValue, lead_values

_NOT_OPTED_OUT = frozenset(("", "no", "n", "false", "0", "none", "off"))


@dataclass(frozen=True)
class LeadFile:
    """An opened file. Its rows, to be iterated once: column → value of `leads`, or what is wrong with the row."""

    header: list[str]
    rows: Iterator[dict[str, Any] | RowError]


def read_leads(stream: BinaryIO | RawIOBase) -> LeadFile:
    """The rows of a file in their order, while it is read.

    Each row counts, so that an import that was interrupted goes on after as many rows as it has recorded.

    Raises:
        UnreadableFile: the file as a whole cannot be read; also while the rows are iterated.
    """
    file = read_csv(stream, has_address)
    columns = read_header(file.header)
    rows = (row if isinstance(row, RowError) else _lead(columns, row) for row in file.records)
    return LeadFile(list(columns.names), rows)


def _lead(columns: LeadColumns, record: Record) -> dict[str, Any] | RowError:
    values, width = without_apostrophe(record.fields), len(columns.names)
    if len(values) < width:
        values = values + [""] * (width - len(values))
    elif any(values[width:]):
        message = f"The row has {len(values)} fields, the header {width}. Does a field lack its quotation marks?"
        return RowError(record.row, "row", "too_many_fields", message, values)
    for index in columns.opt_outs:
        if values[index].strip().lower() not in _NOT_OPTED_OUT:
            message = f"This person opted out: {columns.names[index]} is {values[index].strip()[:50]}."
            return RowError(record.row, columns.names[index], "opted_out", message, values)
    fields: dict[str, str] = {}
    custom_fields = {columns.names[index]: values[index] for index in columns.custom}
    for field, places in columns.fields.items():
        for index in places:
            if not values[index]:
                continue
            if field in fields:
                custom_fields[columns.names[index]] = values[index]
            else:
                fields[field] = values[index]
    try:
        return lead_values(fields, custom_fields)
    except BadValue as error:
        return RowError(record.row, error.field, error.code, error.message, values)
