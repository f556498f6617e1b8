"""Reading a CSV file of unknown format: a binary stream in, its header and its records with row numbers out.

No database. The limits below bound the memory for any file. The same bytes give the same records, so that an
interrupted import can continue by the number of records.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from sendledger.core.vocabulary import RejectCode
from sendledger.files.read_text import MAX_RECORD, Lines, UnreadableFile, open_text

MAX_COLUMNS = 500

MAX_BROKEN_RECORDS = 1_000
"""After this many records with broken quotation marks the file is refused, as each one is read twice."""

MAX_READ_AGAIN = 100_000_000
"""After this many characters were read twice the file is refused. They take a few seconds."""

HEADER_SEARCH_LINES = 20
"""Lines that may stand before the header: LinkedIn puts notes there, Excel a ``sep=;``."""

_DELIMITERS = (",", ";", "\t", "|")


@dataclass(frozen=True, slots=True)
class Record:
    """One record. `row` is the line of the file, counted from 1, on which it begins."""

    row: int
    fields: list[str]


@dataclass(frozen=True, slots=True)
class RowError:
    """Why one record is rejected. `field` is ``row`` if the reason is not one field. `cells` are the record."""

    row: int
    field: str
    code: str
    message: str
    cells: Sequence[str] = dataclasses.field(default=(), repr=False)


@dataclass(frozen=True)
class CsvFile:
    """An opened file: its header, and an iterator over the records after it."""

    header: list[str]
    encoding: str
    delimiter: str
    records: Iterator[Record | RowError]


def read_csv(
    stream: BinaryIO | io.RawIOBase,
    is_header: Callable[[list[str]], bool],
    charset: str | None = None,
    *,
    needs_header: bool = True,
) -> CsvFile:
    """Recognise encoding, delimiter and header; the records are read while they are iterated.

    `charset` is the encoding that the sender declares (one of `python_encoding`). A byte order mark overrides it. A
    record with broken quotation marks is a `RowError`, and reading continues in the line after its first one. So an
    unclosed quotation mark costs one row and not the rest of the file. Empty records are skipped. If no header is
    required and none is found, it has no names and all lines are records.

    Raises:
        UnreadableFile: not a text file, no header, or a limit is exceeded; also while the records are iterated.
    """
    lines, encoding = open_text(stream, charset)
    first_lines = lines.take(HEADER_SEARCH_LINES)
    header = _find_header(first_lines, is_header)
    if header is None:
        if needs_header:
            raise _without_header(first_lines)
        header = _no_header(first_lines)
    lines.put_back(first_lines[header.end :])
    if len(header.fields) > MAX_COLUMNS:
        message = f"it has {len(header.fields):,} columns, at most {MAX_COLUMNS} are possible. Delete those not needed."
        raise UnreadableFile(message, header.row)
    fields = [name.strip().strip("\ufeff\u200b") for name in header.fields]
    return CsvFile(fields, encoding, header.delimiter, _records(lines, header.delimiter, len(fields)))


_BLANKS_BEHIND_QUOTE = {
    delimiter: re.compile(
        rf'((?:^|{re.escape(delimiter)})[ \xa0]*"[^"]*+(?:""[^"]*+)*+")[ \t\xa0]+(?={re.escape(delimiter)}|[\r\n]|$)'
    )
    for delimiter in _DELIMITERS
}
"""A quoted field. Only blanks may stand between its closing mark and the delimiter."""


@dataclass(frozen=True)
class _Header:
    fields: list[str]
    delimiter: str
    row: int
    end: int
    """How many lines there are up to its end."""


def _find_header(lines: list[str], is_header: Callable[[list[str]], bool]) -> _Header | None:
    """The first record that is a header, split by the delimiter that gives it the most columns."""
    for start in range(len(lines)):
        found: list[_Header] = []
        for delimiter in _DELIMITERS:
            reader = csv.reader(lines[start:], delimiter=delimiter, skipinitialspace=True, strict=True)
            try:
                fields = next(reader)
            except csv.Error:
                if (mended := _mended(lines[start : start + 1], delimiter)) is None:
                    continue
                fields, end = mended, start + 1
            else:
                end = start + reader.line_num
            fields = _unwrapped(fields, delimiter) or fields
            if is_header(fields):
                found.append(_Header(fields, delimiter, start + 1, end))
        if found:
            return max(found, key=lambda header: len(header.fields))
    return None


def _no_header(lines: list[str]) -> _Header:
    """For files without a header: the most frequent delimiter in the first line with text."""
    first = next((line for line in lines if line.strip()), "")
    return _Header([], max(_DELIMITERS, key=first.count), 1, 0)


def _without_header(lines: list[str]) -> UnreadableFile:
    first = next((line for line in lines if line.strip()), "")
    if not first:
        return UnreadableFile("it is empty.")
    if "@" in first:
        message = "it has no header: its first line already holds an address. Put the names of the columns above it."
        return UnreadableFile(message, 1)
    names = [name.strip(' "\r\n\ufeff') for name in re.split("|".join(map(re.escape, _DELIMITERS)), first[:1000])]
    shown = ", ".join(name[:40] for name in names[:20] if name)
    return UnreadableFile(
        "none of its columns is named Email or Email Address. Name the column of the addresses so. Its first line"
        f" reads: {shown}",
        1,
    )


def _records(lines: Lines, delimiter: str, columns: int) -> Iterator[Record | RowError]:
    # strict: without it a quotation mark that is never closed silently swallows all rows after it.
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    broken = read_again = 0
    while True:
        row = lines.begin_record()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if (mended := _mended(lines.record, delimiter)) is not None:
                yield Record(row, mended)
                continue
            broken += 1
            failed = _broken(row, lines, str(error), delimiter)
            read_again += lines.give_back_all_but_first()
            if broken > MAX_BROKEN_RECORDS or read_again > MAX_READ_AGAIN:
                message = f"{broken:,} rows have broken quotation marks. Export it again; each mark inside is doubled."
                raise UnreadableFile(message, row) from None
            yield failed
            continue
        if len(fields) == 1 < columns and delimiter in fields[0]:
            unwrapped = _unwrapped(fields, delimiter)
            fields = unwrapped if unwrapped is not None and len(unwrapped) == columns else fields
        if any(field and not field.isspace() for field in fields):
            yield Record(row, fields)


def _mended(lines: list[str], delimiter: str) -> list[str] | None:
    """The fields of a record with blanks behind closing quotation marks, or of a line with a very long field."""
    written = "".join(lines)
    text = _BLANKS_BEHIND_QUOTE[delimiter].sub(_without_blanks, written)
    limit = csv.field_size_limit()
    if text == written and (len(lines) > 1 or len(text) <= limit):
        return None
    try:
        if len(text) > limit:
            csv.field_size_limit(MAX_RECORD)
        (fields,) = csv.reader([text], delimiter=delimiter, skipinitialspace=True, strict=True)
    except csv.Error:
        return None
    finally:
        if len(text) > limit:
            csv.field_size_limit(limit)
    return fields


def _without_blanks(field: re.Match[str]) -> str:
    return field[1]


def _unwrapped(fields: list[str], delimiter: str) -> list[str] | None:
    """The fields of a record that was quoted as a whole, as spreadsheets do that know another delimiter."""
    if len(fields) != 1 or delimiter not in fields[0]:
        return None
    try:
        (inner,) = csv.reader([fields[0]], delimiter=delimiter, skipinitialspace=True, strict=True)
    except (csv.Error, ValueError):
        return None
    return inner


def _broken(row: int, lines: Lines, error: str, delimiter: str) -> RowError:
    code: RejectCode = RejectCode.BROKEN_QUOTE
    message = 'A quotation mark inside a quoted field must be doubled ("").'
    if "field larger than field limit" in error:
        code, message = RejectCode.FIELD_TOO_LONG, f"A field is longer than {csv.field_size_limit():,} characters."
        if lines.count > row:
            code, message = RejectCode.UNCLOSED_QUOTE, f"{message} Is a quotation mark not closed?"
    elif "unexpected end of data" in error:
        code, message = RejectCode.UNCLOSED_QUOTE, "A quotation mark is not closed until the end of the file."
    elif lines.count > row:
        code = RejectCode.UNCLOSED_QUOTE
        message = f"A quotation mark is not closed, or the next one, in row {lines.count}, is odd."
    # Quotation marks are kept, because the intended cells are not known.
    return RowError(row, "row", code, message, lines.record[0].strip("\r\n").split(delimiter)[:MAX_COLUMNS])
