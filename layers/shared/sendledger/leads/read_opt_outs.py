"""Reading a list of addresses and domains that must not be mailed: a file in, its entries out. No database.

It is read like a file of leads: in any encoding, delimiter and order of columns. It needs no header. A reason that is
not known is a warning and no error: the address must not be mailed, whatever the reason is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from io import RawIOBase
from typing import BinaryIO

from sendledger.feedback.suppressions import InvalidEntry, ListEntry
from sendledger.files.read_csv import Record, RowError, read_csv
from sendledger.files.write_csv import cells_as_meant
from sendledger.leads.lead_columns import clean_name, is_address_column
from sendledger.leads.opt_out_reasons import is_reason_column, reason_of
from sendledger.leads.opt_outs import plain, plain_words

_OTHER_NAMES = plain_words("emails addresses emailaddresses address recipient recipients value values entry")
_DOMAIN_NAMES = plain_words("domain domains emaildomain")


def read_opt_outs(stream: BinaryIO | RawIOBase, charset: str | None = None) -> Iterator[ListEntry]:
    """The entries of a list, each with its row and column.

    Raises:
        UnreadableFile: the file as a whole cannot be read; also while the entries are iterated.
    """
    file = read_csv(stream, _is_header, charset, needs_header=False)
    names = [clean_name(name) or f"column {index + 1}" for index, name in enumerate(file.header)]
    columns = [index for names_ in (_is_address, _is_domain) for index, name in enumerate(names) if names_(name)]
    reasons = [index for index, name in enumerate(names) if is_reason_column(name)]
    is_first = True
    for record in file.records:
        if isinstance(record, RowError):
            yield ListEntry(record.field, "", record.row, record.message)
        elif names:
            cells = cells_as_meant(record.fields)
            found = next((index for index in columns if index < len(cells) and cells[index].strip()), None)
            if found is not None:
                yield _with_reason(ListEntry(names[found], cells[found], record.row), names, cells, reasons)
        else:
            yield from _of_unknown_columns(record, is_first)
        is_first = False


def _of_unknown_columns(record: Record, is_first: bool) -> Iterator[ListEntry]:
    """Each address of the record; without one the domain; a first record with neither is a header."""
    cells = [(index, cell) for index, cell in enumerate(cells_as_meant(record.fields)) if cell.strip()]
    addresses = [(index, cell) for index, cell in cells if "@" in cell]
    domains = [(index, cell) for index, cell in cells if "." in cell]
    if is_first and not addresses and not domains:
        return
    values = addresses or domains[:1] or cells[:1]
    others = (cell for index, cell in cells if (index, cell) not in values)
    reason = next((found for found in map(reason_of, others) if found is not None), None)
    for index, cell in values:
        yield ListEntry(f"column {index + 1}", cell, record.row, reason=reason)


def _with_reason(entry: ListEntry, names: list[str], cells: list[str], columns: list[int]) -> ListEntry:
    """The entry with the first reason of its row that is known. A warning names one that is not."""
    given = [index for index in columns if index < len(cells) and cells[index].strip()]
    for index in given:
        if (reason := reason_of(cells[index])) is not None:
            return replace(entry, reason=reason)
    if not given:
        return entry
    message = f"{cells[given[0]].strip()[:100]!r} is not a known reason; the address is suppressed all the same"
    return replace(entry, warning=InvalidEntry(entry.row, names[given[0]], message))


def _is_header(fields: list[str]) -> bool:
    return any(_is_address(name) or _is_domain(name) for name in map(clean_name, fields))


def _is_address(name: str) -> bool:
    return is_address_column(name) or plain(name) in _OTHER_NAMES


def _is_domain(name: str) -> bool:
    return plain(name) in _DOMAIN_NAMES
