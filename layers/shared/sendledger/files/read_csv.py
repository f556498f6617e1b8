"""Reading a CSV file of unknown make: a binary stream in, its header and its records with their row numbers out.

No database. Memory is bounded by the limits below, whatever the file holds; the same bytes give the same records, so
that a reading that was interrupted can be taken up again by its number of records.
"""

from __future__ import annotations

import codecs
import csv
import dataclasses
import io
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO

from sendledger.core.errors import FieldError, InvalidInput

MAX_RECORD = 1_000_000
"""Characters in one record, over all its lines. A single field may have 131,072 (the csv module's own limit)."""

MAX_COLUMNS = 500

MAX_BROKEN_RECORDS = 1_000
"""Records with broken quotation marks after which the file is given up: each one is read a second time."""

HEADER_SEARCH_LINES = 20
"""Lines that may stand before the header: LinkedIn puts notes there, Excel a ``sep=;``."""

_SAMPLE = 256 * 1024
_DELIMITERS = (",", ";", "\t", "|")
_BYTE_ORDER_MARKS = {  # UTF-32 first: its little-endian mark begins with the one of UTF-16
    codecs.BOM_UTF32_LE: None,
    codecs.BOM_UTF32_BE: None,
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_FOREIGN_FORMATS = {
    b"PK\x03\x04": "a zip archive or an Excel workbook (.xlsx)",
    b"PK\x05\x06": "an empty zip archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook (.xls)",
    b"\x1f\x8b": "compressed with gzip",
    b"BZh": "compressed with bzip2",
    b"\x28\xb5\x2f\xfd": "compressed with Zstandard",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"%PDF": "a PDF document",
}


class UnreadableFile(InvalidInput):
    """The file as a whole cannot be read as a CSV of leads."""

    code = "unreadable_file"

    def __init__(self, message: str, row: int | None = None) -> None:
        place = "file" if row is None else f"row {row}"
        super().__init__(f"The file cannot be imported: {message}", [FieldError(place, message)])


@dataclass(frozen=True, slots=True)
class Record:
    """One record. `row` is the line of the file, counted from 1, on which it begins."""

    row: int
    fields: list[str]


@dataclass(frozen=True, slots=True)
class RowError:
    """Why one record is not taken; `field` is ``row`` where it is not about one field. `cells` are the record's own."""

    row: int
    field: str
    code: str
    message: str
    cells: Sequence[str] = dataclasses.field(default=(), repr=False)


@dataclass(frozen=True)
class CsvFile:
    """An opened file: its first record that is a header, and an iterator over what follows."""

    header: list[str]
    encoding: str
    delimiter: str
    records: Iterator[Record | RowError]


def read_csv(stream: BinaryIO | io.RawIOBase, is_header: Callable[[list[str]], bool]) -> CsvFile:
    """Recognise encoding, delimiter and header; the records are read while they are iterated.

    A record whose quotation marks are broken is a `RowError`, and reading goes on in the line after its first one, so
    that a mark that is never closed costs one row and not the rest of the file. Empty records are passed over.

    Raises:
        UnreadableFile: not a text file, no header, or a limit is exceeded; also while the records are iterated.
    """
    lines, encoding = _open(stream)
    first_lines = lines.take(HEADER_SEARCH_LINES)
    header = _find_header(first_lines, is_header)
    lines.put_back(first_lines[header.end :])
    if len(header.fields) > MAX_COLUMNS:
        raise UnreadableFile(f"it has {len(header.fields):,} columns, at most {MAX_COLUMNS} are possible.", header.row)
    fields = [name.strip().strip("\ufeff\u200b") for name in header.fields]
    return CsvFile(fields, encoding, header.delimiter, _records(lines, header.delimiter))


def _open(stream: BinaryIO | io.RawIOBase) -> tuple[_Lines, str]:
    head = b""
    while len(head) < _SAMPLE and (part := stream.read(_SAMPLE - len(head))):
        head += part
    if not head:
        raise UnreadableFile("it is empty.")
    for magic, what in _FOREIGN_FORMATS.items():
        if head.startswith(magic):
            raise UnreadableFile(f"it is {what}, not CSV. Save or export the list as CSV.")
    encoding, errors = "utf-8", _FALLBACK
    for mark, marked in _BYTE_ORDER_MARKS.items():
        if head.startswith(mark):
            if marked is None:
                raise UnreadableFile("its encoding is UTF-32. Save it as UTF-8.")
            head, encoding = head[len(mark) :], marked
            errors = _FALLBACK if marked == "utf-8" else "strict"
            break
    else:
        if head.count(0) * 10 > len(head):
            raise UnreadableFile("it is full of NUL bytes: it is not text, or UTF-16 without a byte order mark.")
        encoding = _unmarked_encoding(head)
    text = io.TextIOWrapper(io.BufferedReader(_HeadAndRest(head, stream)), encoding=encoding, errors=errors, newline="")
    return _Lines(text), encoding


def _unmarked_encoding(head: bytes) -> str:
    """UTF-8, or Windows-1252 where more of the bytes beyond ASCII contradict UTF-8 than agree with it."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(head, final=len(head) < _SAMPLE)
    invalid = text.count("\ufffd") - head.count("\ufffd".encode())
    valid = len(text) - len(text.encode("ascii", "ignore")) - invalid
    return "cp1252" if invalid > valid else "utf-8"


def _stray_bytes_as_windows_1252(error: UnicodeError) -> tuple[str, int]:
    """Read bytes that are not valid UTF-8 as Windows-1252, its five undefined ones as control characters.

    Files are put together from several sources; and what comes after the sample may be the first accent of the file.
    """
    if not isinstance(error, UnicodeDecodeError):
        raise error
    stray = error.object[error.start : error.end]
    text = "".join(bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in stray)
    return text, error.end


_FALLBACK = "sendledger-windows-1252"
codecs.register_error(_FALLBACK, _stray_bytes_as_windows_1252)


class _HeadAndRest(io.RawIOBase):
    """A stream of which the beginning has already been read."""

    def __init__(self, head: bytes, rest: BinaryIO | io.RawIOBase) -> None:
        self._head = memoryview(head)
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self._head[: len(buffer)] or self._rest.read(len(buffer))
        self._head = self._head[len(part) :]
        buffer[: len(part)] = part
        return len(part)


class _Lines:
    """The lines of a text, each no longer than a record may be. The last ones can be given back to be read again."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._again: deque[str] = deque()
        self._record: list[str] = []
        self._record_length = 0
        self.count = 0
        """Lines taken so far, less the ones given back."""

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if self._again:
            line = self._again.popleft()
        else:
            try:
                line = self._text.readline(MAX_RECORD + 1)
            except UnicodeDecodeError as error:
                message = f"it says that its encoding is {error.encoding.upper()}, and is not."
                raise UnreadableFile(message, self.count + 1) from None
        if not line:
            raise StopIteration
        self.count += 1
        self._record.append(line)
        self._record_length += len(line)
        if self._record_length > MAX_RECORD:
            row = self.count if len(line) > MAX_RECORD else self.count - len(self._record) + 1
            raise UnreadableFile(f"a record is longer than {MAX_RECORD:,} characters. Is this a CSV file?", row)
        return line

    def begin_record(self) -> int:
        """Forget the lines of the record before; returns the row of the one to come."""
        self._record.clear()
        self._record_length = 0
        return self.count + 1

    def take(self, number: int) -> list[str]:
        """Up to as many lines, each of which may be a record of its own."""
        taken: list[str] = []
        for _ in range(number):
            self.begin_record()
            taken += islice(self, 1)
        return taken

    def put_back(self, lines: list[str]) -> None:
        """Read these, which were taken last, again."""
        self._again.extendleft(reversed(lines))
        self.count -= len(lines)

    @property
    def first(self) -> str:
        """The first line of this record."""
        return self._record[0]

    def give_back_all_but_first(self) -> None:
        self.put_back(self._record[1:])


@dataclass(frozen=True)
class _Header:
    fields: list[str]
    delimiter: str
    row: int
    end: int
    """How many lines there are up to its end."""


def _find_header(lines: list[str], is_header: Callable[[list[str]], bool]) -> _Header:
    """The first record that is a header, split by the delimiter that gives it the most columns."""
    for start in range(len(lines)):
        found: list[_Header] = []
        for delimiter in _DELIMITERS:
            reader = csv.reader(lines[start:], delimiter=delimiter, skipinitialspace=True, strict=True)
            try:
                fields = next(reader)
            except csv.Error:
                continue
            if is_header(fields):
                found.append(_Header(fields, delimiter, start + 1, start + reader.line_num))
        if found:
            return max(found, key=lambda header: len(header.fields))
    first = next((line for line in lines if line.strip()), "")
    if not first:
        raise UnreadableFile("it is empty.")
    if "@" in first:
        raise UnreadableFile("it has no header: its first line already holds an address.", 1)
    names = [name.strip(' "\r\n\ufeff') for name in re.split("|".join(map(re.escape, _DELIMITERS)), first[:1000])]
    shown = ", ".join(name[:40] for name in names[:20] if name)
    raise UnreadableFile(f"none of its columns is named Email or Email Address. Its first line reads: {shown}", 1)


def _records(lines: _Lines, delimiter: str) -> Iterator[Record | RowError]:
    # strict: without it a quotation mark that is never closed silently swallows all rows after it.
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    broken = 0
    while True:
        row = lines.begin_record()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            broken += 1
            if broken > MAX_BROKEN_RECORDS:
                message = f"more than {MAX_BROKEN_RECORDS:,} rows have broken quotation marks."
                raise UnreadableFile(message, row) from None
            yield _broken(row, lines, str(error), delimiter)
            lines.give_back_all_but_first()
            continue
        if any(field and not field.isspace() for field in fields):
            yield Record(row, fields)


def _broken(row: int, lines: _Lines, error: str, delimiter: str) -> RowError:
    code, message = "broken_quote", 'A quotation mark inside a quoted field must be doubled ("").'
    if "field larger than field limit" in error:
        code, message = "field_too_long", f"A field is longer than {csv.field_size_limit():,} characters."
        if lines.count > row:
            code, message = "unclosed_quote", f"{message} Is a quotation mark not closed?"
    elif "unexpected end of data" in error:
        code, message = "unclosed_quote", "A quotation mark is not closed until the end of the file."
    elif lines.count > row:
        code = "unclosed_quote"
        message = f"A quotation mark is not closed, or the next one, in row {lines.count}, is odd."
    # Quotation marks as they are: what the cells were meant to be, nobody knows.
    return RowError(row, "row", code, message, lines.first.strip("\r\n").split(delimiter))
