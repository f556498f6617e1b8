"""Reading text of unknown encoding: a binary stream in, its lines out, each no longer than a record may be.

A byte order mark decides, else the charset that the sender declares, else the bytes themselves
(docs/decisions/reading-csv-files.md).
"""

from __future__ import annotations

import codecs
import io
import re
from collections import deque
from itertools import islice
from typing import Any, BinaryIO

from sendledger.core.errors import FieldError, InvalidInput

MAX_RECORD = 1_000_000
"""Characters in one record, over all its lines. A single field may have 131,072 (the csv module's own limit)."""

_SAMPLE = 256 * 1024
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


def python_encoding(charset: str) -> str | None:
    """Python's name for the `charset` of a media type, or None if it is unknown.

    As in browsers, a name stands for the larger encoding that files with this name are mostly written in.
    https://encoding.spec.whatwg.org/#names-and-labels
    """
    try:
        name = codecs.lookup(charset).name
    except (LookupError, ValueError):
        return None
    return _WIDER.get(name, name) if _TEXT_ENCODING.fullmatch(name) else None


def open_text(stream: BinaryIO | io.RawIOBase, charset: str | None) -> tuple[Lines, str]:
    """The lines of a file, and its encoding.

    Raises:
        UnreadableFile: it is empty, or no text.
    """
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
    return Lines(text), encoding


def _recognise_encoding(head: bytes, charset: str | None) -> tuple[str, bytes]:
    """The encoding, and the beginning of the file without its byte order mark."""
    for mark, marked in _BYTE_ORDER_MARKS.items():
        if head.startswith(mark):
            return marked, head[len(mark) :]
    if charset not in (None, "utf-8", "utf-16", "utf-32"):  # UTF-16 without the byte order
        return charset or "", head
    evens, odds = head[::2].count(0), head[1::2].count(0)
    if max(evens, odds) * 3 > len(head) and min(evens, odds) * 20 < len(head):  # every second byte, mostly
        return ("utf-16-be" if evens > odds else "utf-16-le"), head
    if (evens + odds) * 10 > len(head):
        raise UnreadableFile("it is full of NUL bytes, so it is not text. Export the list as CSV.")
    return _unmarked_encoding(head), head


def _unmarked_encoding(head: bytes) -> str:
    """UTF-8, or Windows-1252 if more bytes beyond ASCII contradict UTF-8 than agree with it."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(head, final=len(head) < _SAMPLE)
    invalid = text.count("\ufffd") - head.count("\ufffd".encode())
    valid = len(text) - len(text.encode("ascii", "ignore")) - invalid
    return "cp1252" if invalid > valid else "utf-8"


def _stray_bytes_as_windows_1252(error: UnicodeError) -> tuple[str, int]:
    """Read bytes that are not valid UTF-8 as Windows-1252, its five undefined ones as control characters.

    Files may be combined from several sources, and the first accent of a file may come after the sample.
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
    """A stream whose beginning has already been read."""

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


class Lines:
    """The lines of a text, each no longer than a record may be. The last ones can be given back to be read again."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._again: deque[str] = deque()
        self._record: list[str] = []
        self._record_length = 0
        self.count = 0
        """Lines taken so far, less the ones given back."""

    def __iter__(self) -> Lines:
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
        """Up to this many lines, each of which may be a record."""
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
