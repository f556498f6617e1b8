"""Lists of people who must not be mailed are read as files of leads are, with or without a header."""

from __future__ import annotations

import io

import pytest

from sendledger.feedback.suppressions import ListEntry
from sendledger.leads.read_opt_outs import read_opt_outs


def read(content: str, encoding: str = "utf-8") -> list[ListEntry]:
    return list(read_opt_outs(io.BytesIO(content.encode(encoding))))


LISTS: dict[str, tuple[str, list[ListEntry]]] = {
    "no header": ("a@x.com\nx.org\n", [ListEntry("column 1", "a@x.com", 1), ListEntry("column 1", "x.org", 2)]),
    "header": ("Email\na@x.com\n", [ListEntry("Email", "a@x.com", 2)]),
    "header that is not known": ("Sperrliste\na@x.com\n", [ListEntry("column 1", "a@x.com", 2)]),
    "any place": ("Name;E-Mail-Adresse\r\nAnn;a@x.com\r\nBob;\r\n", [ListEntry("E-Mail-Adresse", "a@x.com", 2)]),
    "any place without a header": (
        "Ann\ta@x.com\nBob\tb@x.com\n",
        [ListEntry("column 2", "a@x.com", 1), ListEntry("column 2", "b@x.com", 2)],
    ),
    "addresses and domains": (
        "Domain|Email\nx.org|\nx.net|a@x.com\n",
        [ListEntry("Domain", "x.org", 2), ListEntry("Email", "a@x.com", 3)],
    ),
    "one line": ("a@x.com, b@x.com\n", [ListEntry("column 1", "a@x.com", 1), ListEntry("column 2", "b@x.com", 1)]),
    "SES": ("EmailAddress,Reason,LastUpdateTime\na@x.com,BOUNCE,2024\n", [ListEntry("EmailAddress", "a@x.com", 2)]),
    "our own": ('"value","reason"\n"\'@x.org","manual"\n', [ListEntry("value", "@x.org", 2)]),
    "not an address": ("Name,Email\nAnn,ann\n", [ListEntry("Email", "ann", 2)]),
    "empty lines": ("\n\na@x.com\n,\n", [ListEntry("column 1", "a@x.com", 3)]),
}


@pytest.mark.parametrize(("content", "expected"), LISTS.values(), ids=LISTS.keys())
def test_entries_have_their_row_and_column(content: str, expected: list[ListEntry]) -> None:
    assert read(content) == expected


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_every_encoding_is_read(encoding: str) -> None:
    assert read("Straße;Email\nKölner;a@x.com\n", encoding) == [ListEntry("Email", "a@x.com", 2)]


def test_broken_row_is_an_entry_with_its_error() -> None:
    broken, good = read('Email,Note\na@x.com,"b"c\nb@x.com,\n')
    assert (broken.row, broken.error) == (2, 'A quotation mark inside a quoted field must be doubled ("").')
    assert good == ListEntry("Email", "b@x.com", 3)
