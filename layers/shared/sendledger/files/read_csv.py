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
from sendledger.core.vocabulary import RejectCode

MAX_RECORD = 1_000_000
"""Characters in one record, over all its lines. A single field may have 131,072 (the csv module's own limit)."""

MAX_COLUMNS = 500

MAX_BROKEN_RECORDS = 1_000
"""Records with broken quotation marks after which the file is given up: each one is read a second time."""

MAX_READ_AGAIN = 100_000_000
"""Characters that are read a second time, after which the file is given up: together they take a few seconds."""

HEADER_SEARCH_LINES = 20
"""Lines that may stand before the header: LinkedIn puts notes there, Excel a ``sep=;``."""

_SAMPLE = 256 * 1024
_DELIMITERS = (",", ";", "\t", "|")
_BYTE_ORDER_MARKS = {  # UTF-32 first: its little-endian mark begins with the one of UTF-16
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
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


def read_csv(
    stream: BinaryIO | io.RawIOBase,
    is_header: Callable[[list[str]], bool],
    charset: str | None = None,
    *,
    needs_header: bool = True,
) -> CsvFile:
    """Recognise encoding, delimiter and header; the records are read while they are iterated.

    `charset` is what the sender says that the encoding is (one of `python_encoding`); a byte order mark overrules it.
    A record whose quotation marks are broken is a `RowError`, and reading goes on in the line after its first one, so
    that a mark that is never closed costs one row and not the rest of the file. Empty records are passed over.
    Where no header is needed and none is found, it has no names and all lines are records.

    Raises:
        UnreadableFile: not a text file, no header, or a limit is exceeded; also while the records are iterated.
    """
    lines, encoding = _open(stream, charset)
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


def python_encoding(charset: str) -> str | None:
    """Python's name for the `charset` of a media type, or None where it is not known.

    As in browsers, a name stands for the larger encoding that files with this name are mostly written in.
    https://encoding.spec.whatwg.org/#names-and-labels
    """
    try:
        name = codecs.lookup(charset).name
    except (LookupError, ValueError):
        return None
    return _WIDER.get(name, name) if _TEXT_ENCODING.fullmatch(name) else None


def _open(stream: BinaryIO | io.RawIOBase, charset: str | None) -> tuple[_Lines, str]:
    head = b""
    while len(head) < _SAMPLE and (part := stream.read(_SAMPLE - len(head))):
        head += part
    if not head:
        raise UnreadableFile("it is empty.")
    for magic, what in _FOREIGN_FORMATS.items():
        if head.startswith(magic):
            raise UnreadableFile(f"it is {what}, not CSV. Save or export the list as CSV.")
    encoding, head = _recognise_encoding(head, charset)
    errors = _FALLBACK if encoding in ("utf-8", "cp1252") else "strict"
    text = io.TextIOWrapper(io.BufferedReader(_HeadAndRest(head, stream)), encoding=encoding, errors=errors, newline="")
    return _Lines(text), encoding


def _recognise_encoding(head: bytes, charset: str | None) -> tuple[str, bytes]:
    """The encoding, and the beginning of the file without its byte order mark."""
    for mark, marked in _BYTE_ORDER_MARKS.items():
        if head.startswith(mark):
            return marked, head[len(mark) :]
    if charset not in (None, "utf-8", "utf-16", "utf-32"):  # UTF-16 does not say in which order
        return charset or "", head
    evens, odds = head[::2].count(0), head[1::2].count(0)
    if max(evens, odds) * 3 > len(head) and min(evens, odds) * 20 < len(head):  # every second byte, mostly
        return ("utf-16-be" if evens > odds else "utf-16-le"), head
    if (evens + odds) * 10 > len(head):
        raise UnreadableFile("it is full of NUL bytes, so it is not text. Export the list as CSV.")
    return _unmarked_encoding(head), head


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


_WIDER = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "shift_jis": "cp932",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "euc_kr": "cp949",
    "utf-8-sig": "utf-8",
}
_TEXT_ENCODING = re.compile(
    r"ascii|utf-(?:8|8-sig|16|16-le|16-be|32)|iso8859-\d+|cp\d+|koi8-[a-z]|mac-[a-z]+|shift_jis\w*|euc_\w+|iso2022_\w+|gb\w+"
    r"|big5\w*|johab|tis-620|ptcp154|kz1048"
)
"""The encodings of Python that are for text; others, such as unicode_escape, run or unpack what they decode."""

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
                message = (
                    f"it says that its encoding is {error.encoding.upper()}, and is not. Save it as UTF-8 and leave"
                    " the charset out."
                )
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
    def record(self) -> list[str]:
        """The lines of this record so far."""
        return self._record

    def give_back_all_but_first(self) -> int:
        """Have the other lines read again; returns how many characters that are."""
        self.put_back(self._record[1:])
        return self._record_length


_BLANKS_BEHIND_QUOTE = {
    delimiter: re.compile(
        rf'((?:^|{re.escape(delimiter)})[ \xa0]*"[^"]*+(?:""[^"]*+)*+")[ \t\xa0]+(?={re.escape(delimiter)}|[\r\n]|$)'
    )
    for delimiter in _DELIMITERS
}
"""A quoted field, where something else than blanks between its closing mark and the delimiter is an error."""


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
    """In place of a header: the delimiter that is the most frequent in the first line with text."""
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


def _records(lines: _Lines, delimiter: str, columns: int) -> Iterator[Record | RowError]:
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
    text = _BLANKS_BEHIND_QUOTE[delimiter].sub(r"\1", written)
    if len(lines) > 1 and text == written:
        return None
    limit = csv.field_size_limit(MAX_RECORD)
    try:
        (fields,) = csv.reader([text], delimiter=delimiter, skipinitialspace=True, strict=True)
    except csv.Error:
        return None
    finally:
        csv.field_size_limit(limit)
    return fields


def _unwrapped(fields: list[str], delimiter: str) -> list[str] | None:
    """The fields of a record that was quoted as a whole, as spreadsheets do that know another delimiter."""
    if len(fields) != 1 or delimiter not in fields[0]:
        return None
    try:
        (inner,) = csv.reader([fields[0]], delimiter=delimiter, skipinitialspace=True, strict=True)
    except (csv.Error, ValueError):
        return None
    return inner


def _broken(row: int, lines: _Lines, error: str, delimiter: str) -> RowError:
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
    # Quotation marks as they are: what the cells were meant to be, nobody knows.
    return RowError(row, "row", code, message, lines.record[0].strip("\r\n").split(delimiter)[:MAX_COLUMNS])
