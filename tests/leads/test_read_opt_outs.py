"""Lists of people who must not be mailed are read as files of leads are, with or without a header."""

from __future__ import annotations

import io

import pytest

from sendledger.core.vocabulary import SuppressionReason as Reason
from sendledger.feedback.suppressions import InvalidEntry, ListEntry
from sendledger.leads.opt_out_reasons import reason_of
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
    "SES": (
        "EmailAddress,Reason,LastUpdateTime\na@x.com,BOUNCE,2024\n",
        [ListEntry("EmailAddress", "a@x.com", 2, reason=Reason.BOUNCE)],
    ),
    "our own": ('"value","reason"\n"\'@x.org","manual"\n', [ListEntry("value", "@x.org", 2, reason=Reason.MANUAL)]),
    "Postmark": (
        "EmailAddress,SuppressionReason,Origin\na@x.com,SpamComplaint,Recipient\n",
        [ListEntry("EmailAddress", "a@x.com", 2, reason=Reason.COMPLAINT)],
    ),
    "two columns, of which one is known": (
        "Email,Type,Reason\na@x.com,transactional,550 5.1.1 No such user\n",
        [ListEntry("Email", "a@x.com", 2, reason=Reason.BOUNCE)],
    ),
    "reason without a header": (
        "a@x.com;unsubscribed\nx.org;Spam\nb@x.com;why?\n",
        [
            ListEntry("column 1", "a@x.com", 1, reason=Reason.UNSUBSCRIBE),
            ListEntry("column 1", "x.org", 2, reason=Reason.COMPLAINT),
            ListEntry("column 1", "b@x.com", 3),
        ],
    ),
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


def test_reason_that_is_not_known_is_a_warning_and_no_error() -> None:
    (entry,) = read("Email,Reason\na@x.com,dislikes us\n")
    message = "'dislikes us' is not a known reason; the address is suppressed all the same"
    assert entry == ListEntry("Email", "a@x.com", 2, warning=InvalidEntry(2, "Reason", message))


@pytest.mark.parametrize("reason", Reason)
def test_own_word_for_a_reason_means_itself(reason: Reason) -> None:
    assert reason_of(reason) is reason


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("bounced|BOUNCE|HardBounce|Hard Bounce|5.1.1|550 No such user|cleaned|Invalid|Bounced Address", Reason.BOUNCE),
        ("Soft bounce|transient|450 4.2.2 Mailbox full|4.4.1", Reason.TRANSIENT_BOUNCES),
        ("complained|COMPLAINT|SpamComplaint|Spam Reporting Address|spam|abuse|marked as spam", Reason.COMPLAINT),
        ("unsubscribed|opt-out|Opted Out|List Unsubscribe|abgemeldet|désabonné|退订", Reason.UNSUBSCRIBE),
        ("manual|ManualSuppression|Manually Added|blocklisted|do not contact", Reason.MANUAL),
    ],
)
def test_words_of_other_products_are_known(words: str, reason: Reason) -> None:
    assert {word: reason_of(word) for word in words.split("|")} == dict.fromkeys(words.split("|"), reason)


@pytest.mark.parametrize("word", ["", "active", "subscribed", "not unsubscribed", "5", "5511", "why?", "2024-05-01"])
def test_other_words_are_no_reason(word: str) -> None:
    assert reason_of(word) is None
