"""Files of every make are read in bounded memory, and what is wrong with them is said with its row."""

from __future__ import annotations

import csv
import io
import time
import tracemalloc
from typing import Any, BinaryIO, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendledger.files import read_text as module
from sendledger.files.read_csv import CsvFile, Record, RowError, read_csv
from sendledger.files.read_text import UnreadableFile


def is_header(fields: list[str]) -> bool:
    return "email" in (field.strip("\ufeff ").lower() for field in fields)


def read(content: bytes) -> CsvFile:
    return read_csv(io.BytesIO(content), is_header)


def rows(content: bytes) -> list[Record | RowError]:
    return list(read(content).records)


def fields(content: bytes) -> list[list[str]]:
    found = rows(content)
    return [row.fields for row in found if isinstance(row, Record)]


# Left out are characters that the file format itself uses up: NUL, and blanks before a quotation mark.
TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1).map(
    lambda text: f"x{text}"
)
# Bytes that cannot be a part of UTF-8 after another letter: else the file has two readings.
LATIN = st.text(st.sampled_from('abc,;\t"\n\u00c4\u00d6\u00df\u00e0\u00e9\u00f1\u00fc\u00ff'), min_size=1).map(
    lambda text: f"x{text}"
)


def written(table: list[list[str]], delimiter: str, line_end: str) -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator=line_end, quoting=csv.QUOTE_ALL).writerows(
        [["email", "note"], *table]
    )
    return out.getvalue()


@given(
    table=st.lists(st.tuples(TEXT, TEXT).map(list)),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le-bom", "utf-16-be-bom"]),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_any_text_comes_back_in_every_encoding(
    table: list[list[str]], encoding: str, delimiter: str, line_end: str
) -> None:
    text = written(table, delimiter, line_end)
    if encoding.endswith("-bom"):
        text, encoding = "\ufeff" + text, encoding.removesuffix("-bom")
    assert fields(text.encode(encoding)) == table


@given(table=st.lists(st.tuples(LATIN, LATIN).map(list)), delimiter=st.sampled_from([",", ";", "\t"]))
def test_windows_1252_comes_back(table: list[list[str]], delimiter: str) -> None:
    assert fields(written(table, delimiter, "\r\n").encode("cp1252")) == table


@given(st.binary())
def test_any_bytes_are_read_or_refused_with_a_reason(content: bytes) -> None:
    try:
        found = rows(b"email,note\n" + content)
    except UnreadableFile:
        return
    assert all(row.row >= 2 for row in found)


@given(st.lists(st.sampled_from(['"', ",", "\n", "a", "a@b.c", '""'])))
def test_broken_quotation_marks_never_lose_a_line(parts: list[str]) -> None:
    content = "".join(parts)
    found = rows(b"email,note\n" + content.encode())
    lines = io.StringIO(content, newline="").readlines()
    taken = [row.row for row in found]
    assert taken == sorted(set(taken))
    assert all(lines[row - 2].strip() for row in taken)


def test_most_bytes_decide_between_utf_8_and_windows_1252() -> None:
    assert fields("email,note\na,É’s café\nb,für €5\n".encode("cp1252")) == [["a", "É’s café"], ["b", "für €5"]]


def test_stray_byte_in_utf_8_is_read_as_windows_1252() -> None:
    content = "email,note\na,Müller äöü\n".encode() + b"b,caf\xe9\n"
    assert fields(content) == [["a", "Müller äöü"], ["b", "café"]]


def test_first_accent_after_the_sample_is_read() -> None:
    content = b"email,note\n" + b"a,b\n" * 100_000 + b"z,caf\xe9\ny,caf\xc3\xa9\n"
    assert fields(content)[-2:] == [["z", "café"], ["y", "café"]]


def test_header_is_found_below_the_notes_of_linkedin() -> None:
    content = b'Notes:\n"When exporting your connection data, you may\nnotice ..."\n\nName,Email\nAnn,a@b.c\n'
    file = read(content)
    assert file.header == ["Name", "Email"]
    assert list(file.records) == [Record(6, ["Ann", "a@b.c"])]


def test_separator_line_of_excel_is_passed_over() -> None:
    file = read(b"sep=;\r\nEmail;Name\r\na@b.c;Ann, Lee\r\n")
    assert (file.delimiter, list(file.records)) == (";", [Record(3, ["a@b.c", "Ann, Lee"])])


def test_rows_are_counted_by_the_lines_of_the_file() -> None:
    content = b'email,note\r\na,"one\r\ntwo"\r\n\r\n,\r\nb,three\r\n'
    assert rows(content) == [Record(2, ["a", "one\r\ntwo"]), Record(6, ["b", "three"])]


def test_blank_before_a_quotation_mark_is_passed_over() -> None:
    assert fields(b'email, note\na, "Lee, Ann"\n') == [["a", "Lee, Ann"]]


def test_unclosed_quotation_mark_costs_one_row() -> None:
    found = rows(b'email,note\na,"open\nb,fine\nc,"also fine"\nd,"open\ne,fine\n')
    assert [(row.row, type(row)) for row in found] == [
        (2, RowError),
        (3, Record),
        (4, Record),
        (5, RowError),
        (6, Record),
    ]
    assert {row.code for row in found if isinstance(row, RowError)} == {"unclosed_quote"}


def test_quotation_mark_in_a_quoted_field_is_an_error_of_its_row() -> None:
    found = rows(b'email,note\na,"5" pipe"\nb,5" pipe\n')
    assert isinstance(found[0], RowError)
    assert (found[0].row, found[0].code) == (2, "broken_quote")
    assert found[1] == Record(3, ["b", '5" pipe'])


def test_field_on_one_line_may_be_as_long_as_a_record() -> None:
    long = b"x" * 200_000
    assert rows(b"email,note\na," + long + b"\nb,y\n") == [Record(2, ["a", long.decode()]), Record(3, ["b", "y"])]


def test_overlong_field_of_many_lines_is_an_error_of_its_row() -> None:
    found = rows(b'email,note\na,"' + b"x\n" * 100_000 + b'"\nb,y\n')
    assert isinstance(found[0], RowError)
    assert (found[0].row, found[0].code) == (2, "unclosed_quote")
    assert found[-1] == Record(100_003, ["b", "y"])


@pytest.mark.parametrize("blanks", [" ", "\t", "  ", "\u00a0"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_blanks_behind_a_closing_quotation_mark_are_passed_over(blanks: str, end: str) -> None:
    line = f'"a"{blanks},"Lee, ""Ann"""{blanks}{end}'
    assert fields(f'"email"{blanks},"note"{end}{line}"b","c"{end}'.encode()) == [["a", 'Lee, "Ann"'], ["b", "c"]]


def test_blanks_behind_a_quotation_mark_do_not_use_up_the_broken_rows() -> None:
    assert len(fields(b"email,note\n" + b'"a" ,"b" \n' * 3_000)) == 3_000


def test_blank_behind_a_field_of_several_lines_is_passed_over() -> None:
    assert rows(b'email,note\n"a","one\ntwo" \nb,c\n') == [Record(2, ["a", "one\ntwo"]), Record(4, ["b", "c"])]


def test_lines_that_are_quoted_whole_are_read() -> None:
    assert fields(b'"email,note"\n"a,""Lee, Ann"""\n"b,"\nc,d\n') == [["a", "Lee, Ann"], ["b", ""], ["c", "d"]]


def test_single_field_with_a_delimiter_stays_one() -> None:
    assert fields(b'email,note,city\n"Lee, Ann"\n') == [["Lee, Ann"]]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32"])
def test_unicode_is_recognised_without_being_told(encoding: str) -> None:
    assert fields("email;note\na;Köln\n".encode(encoding)) == [["a", "Köln"]]


@pytest.mark.parametrize(
    ("charset", "text"),
    [
        ("iso-8859-2", "Łódź"),
        ("windows-1251", "Анна"),
        ("Shift_JIS", "花子①"),
        ("ISO-8859-1", "€ Köln"),
        ("latin1", "é"),
    ],
)
def test_charset_of_the_sender_is_used(charset: str, text: str) -> None:
    encoding = module.python_encoding(charset)
    assert encoding is not None
    content = f"email,note\na,{text}\n".encode(encoding)
    assert [
        row.fields for row in read_csv(io.BytesIO(content), is_header, encoding).records if isinstance(row, Record)
    ] == [["a", text]]


def test_byte_order_mark_overrules_the_charset() -> None:
    content = "email,note\na,Köln\n".encode("utf-8-sig")
    assert list(read_csv(io.BytesIO(content), is_header, "cp1251").records) == [Record(2, ["a", "Köln"])]


@pytest.mark.parametrize(
    "charset", ["klingon", "", "unicode_escape", "zlib", "rot13", "utf-7", "punycode", "\x00", "idna"]
)
def test_unknown_charset_is_none(charset: str) -> None:
    assert module.python_encoding(charset) is None


def test_records_that_are_read_again_and_again_end_soon() -> None:
    content = b"email,note\n" + b'"x\n","y' * 100_000 + b'"z"'
    stream = io.BytesIO(content * 40)
    before = time.process_time()
    with pytest.raises(UnreadableFile):
        list(read_csv(stream, is_header).records)
    assert time.process_time() - before < 20


UNREADABLE: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "it is empty"),
    "blank lines": (b"\n\r\n \n", "it is empty"),
    "workbook": (b"PK\x03\x04rest", "xlsx"),
    "old workbook": (b"\xd0\xcf\x11\xe0rest", "xls"),
    "gzip": (b"\x1f\x8b\x08rest", "gzip"),
    "PDF": (b"%PDF-1.7", "PDF"),
    "binary": (b"email\x00\x01,\x02", "NUL"),
    "half a UTF-16 character": ("email\n".encode("utf-16") + b"\xd8", "UTF-16"),
    "no header": (b"ann@example.com,Ann\n", "already holds an address"),
    "no column for the address": (b"Name,Phone\nAnn,1\n", "Name, Phone"),
    "many columns": (b"email" + b",x" * 1_000 + b"\n", "1,001 columns"),
    "many more columns": (b"email" + b",x" * 1_000_000 + b"\n", "1,000,000 characters"),
    "endless line": (b"email,note\n" + b"x" * 3_000_000, "1,000,000 characters"),
    "endless record": (b"email\n" + b'"' + b'x\n","' * 300_000, "1,000,000 characters"),
    "broken quotation marks": (b"email,note\n" + b'"a"b,c\n' * 2_000, "1,001 rows have broken"),
}


@pytest.mark.parametrize(("content", "reason"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_other_file_is_refused_with_a_reason(content: bytes, reason: str) -> None:
    with pytest.raises(UnreadableFile, match=reason):
        rows(content)


class Endless:
    """A stream that never ends, and counts what is taken of it."""

    def __init__(self, head: bytes, rest: bytes) -> None:
        self._head = head
        self._rest = rest
        self.taken = 0

    def read(self, size: int) -> bytes:
        part, self._head = self._head[:size], self._head[size:]
        part = part or (self._rest * (size // len(self._rest) + 1))[:size]
        self.taken += len(part)
        return part


@pytest.mark.parametrize("rest", [b"x", b'"', b'""', b"x,"], ids=repr)
def test_bomb_is_given_up_early(rest: bytes) -> None:
    stream = Endless(b'email,note\n"', rest)
    with pytest.raises(UnreadableFile):
        for _ in read_csv(cast(BinaryIO, stream), is_header).records:
            pass
    assert stream.taken < 4 * module.MAX_RECORD + 2 * module._SAMPLE


def test_memory_does_not_grow_with_the_file() -> None:
    def peak(number: int) -> int:
        content: Any = io.BytesIO(b"email,note\n" + b"ann@example.com,some words\n" * number)
        tracemalloc.start()
        count = sum(1 for _ in read_csv(content, is_header).records)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert count == number
        return most

    assert peak(60_000) < peak(20_000) + 500_000
