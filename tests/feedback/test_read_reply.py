"""What is read from a reply, whatever it looks like."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendledger.feedback.read_reply import MAX_TEXT, ReadReply, read_reply, reply_from_fields

REFERENCE = "<0100018f0000abcd-11111111-2222-3333-4444-555555555555-000000@email.amazonses.com>"


def message(*headers: str, body: str = "Yes, please call me.", subject: str = "Re: Hello") -> ReadReply:
    lines = [
        "From: Ann Lee <Ann@Example.com>",
        "To: reply+k1.abc@reply.example.com",
        f"Subject: {subject}",
        "Message-ID: <1@mail.example.com>",
        f"In-Reply-To: {REFERENCE}",
        *headers,
    ]
    return read_reply("\r\n".join([*lines, "", body]).encode())


def test_a_persons_reply_is_read() -> None:
    assert message("References: <0@other>\r\n <2@other>", "Cc: Bob <BOB@example.com>") == ReadReply(
        message_id="<1@mail.example.com>",
        from_address="ann@example.com",
        to_addresses=("reply+k1.abc@reply.example.com", "bob@example.com"),
        subject="Re: Hello",
        text="Yes, please call me.",
        referred_ids=(REFERENCE, "<2@other>", "<0@other>"),
        automatic=None,
    )


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        (["Auto-Submitted: auto-replied"], "auto_submitted"),
        (["Auto-Submitted: auto-generated; owner-email=x"], "auto_submitted"),
        (["auto-submitted: AUTO-REPLIED (vacation)"], "auto_submitted"),
        (["Auto-Submitted: no"], None),
        (["Auto-Submitted: no (a person)"], None),
        (["Precedence: bulk"], "precedence"),
        (["Precedence: auto_reply"], "precedence"),
        (["Precedence: first-class"], None),
        (["X-Autoreply: yes"], "x_autoreply"),
        (["X-Auto-Response-Suppress: All"], "auto_response_suppress"),
        (["X-Auto-Response-Suppress: None"], None),
        (["List-Id: <list.example.com>"], "mailing_list"),
        (["Return-Path: <>"], "empty_return_path"),
        (["Return-Path: <ann@example.com>"], None),
        (["Content-Type: multipart/report; report-type=delivery-status; boundary=b"], "delivery_report"),
        (["X-SES-Spam-Verdict: FAIL"], "spam"),
        (["X-SES-Spam-Verdict: PASS", "X-SES-Virus-Verdict: PASS"], None),
    ],
)
def test_headers_tell_automatic_mail(headers: list[str], reason: str | None) -> None:
    assert message(*headers).automatic == reason


@pytest.mark.parametrize(
    "subject",
    [
        "Automatic reply: Hello",
        "Out of Office: Hello",
        "OUT OF THE OFFICE Re: Hello",
        "[Auto-Reply] Hello",
        "Abwesenheitsnotiz: Hello",
        "Automatische Antwort: Hello",
        "=?utf-8?q?R=C3=A9ponse_automatique_=3A_Hello?=",
        "Respuesta automática: Hello",
        "Risposta automatica: Hello",
        "Automatisch antwoord: Hello",
        "自动回复: Hello",
    ],
)
def test_the_usual_subjects_tell_automatic_mail(subject: str) -> None:
    encoded = message(subject=subject)
    assert encoded.automatic == "subject"


@pytest.mark.parametrize("subject", ["Re: Out of office hours?", "RE: Automatic reply to leads", "Our vacations", ""])
def test_a_persons_subject_does_not_look_automatic(subject: str) -> None:
    assert message(subject=subject).automatic is None


def test_mail_of_a_mail_system_is_automatic() -> None:
    raw = b"From: MAILER-DAEMON@mx.example.com\nSubject: Undelivered\n\nx"
    assert read_reply(raw).automatic == "delivery_report"


def test_plain_text_is_preferred_and_attachments_are_left_out() -> None:
    body = "\n".join(
        [
            "--b\nContent-Type: text/plain\nContent-Disposition: attachment; filename=a.txt\n\nattached",
            "--b\nContent-Type: text/html; charset=utf-8\n\n<p>from <b>HTML</b></p>",
            "--b\nContent-Type: text/plain; charset=latin-1\nContent-Transfer-Encoding: quoted-printable\n\nGr=FC=DFe",
            "--b--",
        ]
    )
    assert message("Content-Type: multipart/mixed; boundary=b", body=body).text.strip() == "Grüße"


def test_html_becomes_text_where_there_is_no_other() -> None:
    read = message("Content-Type: text/html", body="<style>p{}</style><p>Yes, <a href='https://x.example'>call</a></p>")
    assert read.text == "Yes, [call](https://x.example)\n"


def test_unknown_charset_and_encoded_word_are_no_obstacle() -> None:
    read = message("Content-Type: text/plain; charset=klingon", body="Yes", subject="=?klingon?q?Qapla?=")
    assert (read.text, read.subject) == ("Yes", "=?klingon?q?Qapla?=")


def test_message_without_an_id_is_told_by_its_content() -> None:
    first, same, other = (read_reply(b"From: a@example.com\n\n" + text) for text in (b"one", b"one", b"two"))
    assert first.message_id == same.message_id != other.message_id
    assert first.message_id.startswith("sha256:")


def test_what_cannot_be_stored_is_taken_out() -> None:
    read = read_reply(b"From: a@example.com\nSubject: a\x00b \xff\n\nc\x00d\xff")
    assert "\x00" not in read.subject + read.text
    read.subject.encode()
    read.text.encode()


def test_long_text_is_cut() -> None:
    assert len(message(body="x" * 300_000).text) == MAX_TEXT


def test_message_of_thousands_of_nested_parts_is_read_without_its_text() -> None:
    parts = "".join(f"--b{n}\nContent-Type: multipart/mixed; boundary=b{n + 1}\n\n" for n in range(5_000))
    read = message("Content-Type: multipart/mixed; boundary=b0", body=parts)
    assert (read.from_address, read.text) == ("ann@example.com", "")


def test_deeply_nested_html_is_read_somehow() -> None:
    read = message("Content-Type: text/html", body="<div>" * 20_000 + "Yes" + "JINJATAG9X")
    assert "Yes" in read.text


@given(st.binary(max_size=2_000))
def test_any_bytes_are_read(raw: bytes) -> None:
    read = read_reply(raw)
    for text in (read.subject, read.text, read.from_address, read.message_id, *read.to_addresses, *read.referred_ids):
        assert "\x00" not in text.encode().decode()


@given(
    st.sampled_from(["From", "To", "Subject", "Message-ID", "References", "Content-Type", "Content-Disposition"]),
    st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=200),
)
def test_any_header_is_read(name: str, value: str) -> None:
    read_reply(f"{name}: {value}\n\ntext".encode())


def test_fields_of_another_mail_system_are_read_the_same_way() -> None:
    read = reply_from_fields(
        "Ann Lee <ann@example.com>",
        "Automatic reply: Hello",
        "Away",
        message_id="<1@x>",
        to_addresses=["reply+k1.abc@reply.example.com"],
        in_reply_to=REFERENCE,
        headers={"Auto-Submitted": "auto-replied"},
    )
    assert (read.message_id, read.from_address, read.automatic) == ("<1@x>", "ann@example.com", "auto_submitted")
    assert (read.to_addresses, read.referred_ids) == (("reply+k1.abc@reply.example.com",), (REFERENCE,))
