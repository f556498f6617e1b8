"""Reading leads from a CSV file: a binary stream in, a lead or an error for each of its rows out. No database."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import RawIOBase
from typing import Any, BinaryIO

from sendledger.core.email_address import InvalidAddress, normalized_address
from sendledger.core.person_names import NAME_PARTS, is_name, is_title
from sendledger.core.vocabulary import ColumnUse, LeadStatus, RejectCode
from sendledger.files.read_csv import Record, RowError, read_csv
from sendledger.files.write_csv import cells_as_meant
from sendledger.leads.lead_columns import (
    CUSTOM_FIELDS,
    MAX_NAME,
    NOTHING_CHOSEN,
    LeadColumns,
    has_address,
    read_header,
)
from sendledger.leads.lead_values import BadValue, lead_values, storable
from sendledger.leads.opt_outs import Sign, plain, refuses

_GOOGLE_BREAK = " ::: "
_SHOWN = 50
"""Characters of a value that a message repeats."""
_SAMPLES = 3
"""Records whose values show what is in a column."""

Warn = Callable[[RowError], None]


@dataclass(frozen=True, slots=True)
class OptedOut(RowError):
    """A row of a person who must not be mailed. `address` is '' if the row has no valid one."""

    address: str = dataclasses.field(default="", repr=False)


@dataclass(frozen=True)
class LeadFile:
    """An opened file. Its rows, to be iterated once: column → value of `leads`, or what is wrong with the row."""

    header: list[str]
    rows: Iterator[dict[str, Any] | RowError]
    columns: LeadColumns
    first_records: list[list[str]]
    """Filled while the rows are iterated."""


@dataclass(frozen=True)
class ReadColumn:
    """How a column was understood, with a few of its values."""

    name: str
    field: ColumnUse
    samples: list[str]


def read_leads(
    stream: BinaryIO | RawIOBase,
    warn: Warn,
    charset: str | None = None,
    chosen: Mapping[str, str] = NOTHING_CHOSEN,
) -> LeadFile:
    """The rows of a file in order, read on demand.

    Every row is counted, so that an interrupted import continues after the rows that it has recorded. `warn` is called
    for each value that is left out of a lead because it cannot be stored. `charset` is what the sender says that the
    encoding is. `chosen` is that of `read_header`.

    Raises:
        UnreadableFile: the file as a whole cannot be read; also while the rows are iterated.
    """
    file = read_csv(stream, lambda header: has_address(header, chosen), charset)
    columns = read_header(file.header, chosen)
    first: list[list[str]] = []
    return LeadFile(list(columns.names), _leads(columns, file.records, warn, first), columns, first)


def columns_of(file: LeadFile) -> list[ReadColumn]:
    """How its columns were understood, with values of the first records, once some of its rows were iterated."""
    return [
        ReadColumn(
            shown(name),
            file.columns.use_of(index),
            [
                shown(cells[index][:_SHOWN])
                for cells in file.first_records
                if index < len(cells) and cells[index].strip()
            ],
        )
        for index, name in enumerate(file.header)
    ]


def shown(text: str) -> str:
    """A text of a file as the database can keep it: it takes no NUL."""
    return text.replace("\x00", "\ufffd")


def _leads(
    columns: LeadColumns, records: Iterator[Record | RowError], warn: Warn, first: list[list[str]]
) -> Iterator[dict[str, Any] | RowError]:
    for record in records:
        if isinstance(record, RowError):
            yield record
            continue
        if len(first) < _SAMPLES:
            first.append(record.fields)
        yield _lead(columns, record, warn)


def _lead(columns: LeadColumns, record: Record, warn: Warn) -> dict[str, Any] | RowError:
    values, width = cells_as_meant(record.fields), len(columns.names)
    if len(values) < width:
        values = values + [""] * (width - len(values))
    elif any(values[width:]):
        message = (
            f"The row has {len(values):,} fields, the header {width}. Put a field with a separator in it into quotation"
            " marks."
        )
        return RowError(record.row, "row", RejectCode.TOO_MANY_FIELDS, message, values[: 2 * width])
    for index, sign in columns.opt_outs:
        if values[index] and refuses(sign, values[index]):
            return _opted_out(columns, record.row, index, values)
    fields, custom_fields = _sorted_out(columns, values)
    left_out: list[BadValue] = []
    try:
        lead = lead_values(fields, custom_fields, left_out.append)
    except BadValue as error:
        return RowError(record.row, error.field, error.code, error.message, values)
    for bad in left_out:
        message = f"{bad.message} The lead was imported without it."
        warn(RowError(record.row, bad.field, bad.code, message, values))
    if columns.tells_status and (status := _status(columns, values)):
        lead["status"] = status
    return lead


def _sorted_out(columns: LeadColumns, values: list[str]) -> tuple[dict[str, str], dict[str, Any]]:
    """The fields of a lead, each the first of its columns that has one, and the custom fields."""
    fields: dict[str, str] = {}
    custom_fields: dict[str, Any] = {columns.names[index]: values[index] for index in columns.custom}
    for field, places in columns.fields.items():
        # A single address is checked later.
        suits = _SUITS.get(field) if field != "email" or len(places) > 1 else None
        for index in places:
            value = values[index]
            if not value:
                continue
            if field in fields:
                custom_fields[columns.names[index]] = value
                continue
            if ":" in value and _GOOGLE_BREAK in value and field != "tags":  # several values in one field
                custom_fields[columns.names[index]] = value
                value = value.partition(_GOOGLE_BREAK)[0]
            if suits is None or suits(value):
                fields[field] = value
            else:
                custom_fields[columns.names[index]] = value
    if columns.own_custom_fields is not None and (stored := values[columns.own_custom_fields]):
        custom_fields |= _custom_fields(stored)
    if "email" not in fields:  # report the first one
        places = columns.fields["email"]
        fields["email"] = next((values[index] for index in places if values[index].strip()), "")
    return fields, custom_fields


def _opted_out(columns: LeadColumns, row: int, index: int, values: list[str]) -> OptedOut:
    name = columns.names[index]
    message = (
        f"This person must not be mailed: {name} is {values[index].strip()[:_SHOWN]}."
        " The address was suppressed instead of imported."
    )
    email = _sorted_out(columns, values)[0]["email"]
    try:
        address = normalized_address(email)
    except InvalidAddress:
        address = ""
        message = message.replace(" The address was suppressed instead of imported.", " The row has no valid address.")
    return OptedOut(row, name, RejectCode.OPTED_OUT, message, values, address)


def _status(columns: LeadColumns, values: list[str]) -> LeadStatus | None:
    """The status of the lead in this file, if it is one of ours."""
    if columns.own_status is not None:
        own = values[columns.own_status].strip()
        return LeadStatus(own) if own in _LEAD_STATUSES else None
    for index, sign in columns.opt_outs:
        if sign is Sign.STATUS and values[index] and (status := _foreign_status(values[index])):
            return status
    return None


@functools.lru_cache(maxsize=1_000)
def _foreign_status(value: str) -> LeadStatus | None:
    word = plain(value)
    # lemlist has emailsNotInterested and linkedinNotInterested.
    return LeadStatus.NOT_INTERESTED if word.endswith("notinterested") else _FOREIGN_STATUSES.get(word)


def _custom_fields(text: str) -> dict[str, Any]:
    """The custom fields that a column holds as JSON. A text that is not JSON is kept as it is."""
    try:
        stored = json.loads(text)
    except (ValueError, RecursionError):
        return {CUSTOM_FIELDS: text}
    if not isinstance(stored, dict):
        return {CUSTOM_FIELDS: text}
    return {
        name[:MAX_NAME]: value if isinstance(value, str | bool | int) or _is_finite(value) else json.dumps(value)
        for name, value in stored.items()
        if value is not None and name not in NAME_PARTS and storable(name)
    }


def _is_finite(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def _is_address(value: str) -> bool:
    try:
        normalized_address(value)
    except InvalidAddress:
        return False
    return True


def _is_job(value: str) -> bool:
    return not is_title(value)


_SUITS: dict[str, Callable[[str], bool]] = {
    "email": _is_address,
    "contact_name": is_name,
    "first_name": is_name,
    "last_name": is_name,
    "job_title": _is_job,
}
"""Field → check whether a value can be one: an address is not a name, and "Mrs." is not a job title. A value that does
not fit is kept as a custom field, and the next column of this field is used."""

_LEAD_STATUSES = frozenset(LeadStatus)
_FOREIGN_STATUSES = {
    "invalid": LeadStatus.INVALID,
    "undeliverable": LeadStatus.INVALID,
}
