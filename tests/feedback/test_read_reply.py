"""What is read from a reply, whatever it looks like."""

from __future__ import annotations

import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendledger.feedback.read_reply import MAX_TEXT, ReadReply, read_reply, reply_from_fields
from testbed.hostile_mail import HOSTILE_MAIL

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
        (["Precedence: bulk", "List-Id: <list.example.com>"], "mailing_list"),
        (["Precedence: list"], "mailing_list"),
        (["X-Autoreply: yes"], "x_autoreply"),
        (["X-Autoreply: NO"], None),
        (["X-Autorespond: Hello"], "x_autoreply"),
        (["X-Autorespond:"], "x_autoreply"),
        (["X-Auto-Reply-From: ann@example.com"], "x_autoreply"),
        (["X-Autoresponder-Rule: away"], "x_autoreply"),
        (["X-MS-Exchange-Generated-Message-Source: Mailbox Rules Agent"], "x_autoreply"),
        (["X-MS-Exchange-Inbox-Rules-Loop: ann@example.com"], None),
        (["X-Precedence: auto_reply"], "precedence"),
        (["X-Auto-Response-Suppress: All"], None),
        (["X-Auto-Response-Suppress: OOF, DR, NDR, RN, NRN"], None),
        (["X-Auto-Response-Suppress: All", "Auto-Submitted: auto-generated"], "auto_submitted"),
        (["List-Id: <list.example.com>"], "mailing_list"),
        (["X-Failed-Recipients: bob@example.com"], "delivery_report"),
        (["Content-Type: text/calendar; method=REPLY; charset=utf-8"], "calendar"),
        (["Content-Type: text/calendar; method=REQUEST"], None),
        (["Return-Path: <>"], "empty_return_path"),
        (["Return-Path: <ann@example.com>"], None),
        (["Content-Type: multipart/report; report-type=delivery-status; boundary=b"], "delivery_report"),
        (["Content-Type: multipart/report; report-type=disposition-notification; boundary=b"], "delivery_report"),
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


@pytest.mark.parametrize(
    "subject",
    [
        "Re: Out of office hours?",
        "RE: Automatic reply to leads",
        "[EXTERNAL] AW: Abwesenheitsnotiz",
        "回复: 自动回复",
        "Re: Ann is out of the office today",
        "Automation of replies",
        "[External] Yes, please",
        "Autos: our offer",
        "Our vacations",
        "",
    ],
)
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
    head = "<html><HEAD><title>Re: Hello</title><style>p{}</style></HEAD><!-- <p>no</p> -->"
    body = f"{head}<p>Yes,\n <a href='https://x.example'>call</a> &amp; write.<br>Ann</p><script>1 < 2</script>"
    assert message("Content-Type: text/html", body=body).text == "Yes,\ncall & write.\nAnn"


def test_unknown_charset_and_encoded_word_are_no_obstacle() -> None:
    read = message("Content-Type: text/plain; charset=klingon", body="Yes", subject="=?klingon?q?Qapla?=")
    assert (read.text, read.subject) == ("Yes", "=?klingon?q?Qapla?=")


def test_message_without_an_id_is_identified_by_its_content() -> None:
    first, same, other = (read_reply(b"From: a@example.com\n\n" + text) for text in (b"one", b"one", b"two"))
    assert first.message_id == same.message_id != other.message_id
    assert first.message_id.startswith("sha256:")


def test_characters_that_cannot_be_stored_are_removed() -> None:
    read = read_reply(b"From: a@example.com\nSubject: a\x00b \xff\n\nc\x00d\xff")
    assert "\x00" not in read.subject + read.text
    read.subject.encode()
    read.text.encode()


def test_long_text_is_cut() -> None:
    assert len(message(body="x" * 300_000).text) == MAX_TEXT


@pytest.mark.parametrize(
    ("encoding", "charset", "body", "text"),
    [
        ("base64", "utf-8", "R3LDvMOfZQ==", "Grüße"),
        ("BASE64", "utf-8", "R3L\r\nDvMOfZQ", "Grüße"),
        ("quoted-printable", "iso-8859-1", "Gr=FC=DFe", "Grüße"),
        ("8bit", "utf-8", "Grüße", "Grüße"),
        ("base64", "iso-2022-jp", "GyRCJEokKxsoQg==", "なか"),
        ("7bit", "punycode", "Yes-", "Yes-"),
        ("7bit", "\x00", "Yes", "Yes"),
        ("base64", "utf-8", "====", ""),
    ],
)
def test_text_is_decoded_whatever_its_encoding(encoding: str, charset: str, body: str, text: str) -> None:
    headers = (f"Content-Type: text/plain; charset={charset}", f"Content-Transfer-Encoding: {encoding}")
    assert message(*headers, body=body).text == text


def test_text_is_found_among_parts_within_parts() -> None:
    body = "\r\n".join(
        [
            "preamble --a",
            "--a",
            'Content-Type: multipart/alternative; boundary="a b"',
            "",
            "--a b",
            "Content-Type: text/html",
            "",
            "<p>No</p>",
            "--a b",
            "",
            "Yes",
            "--a c",
            "--a b--",
            "--a",
            "Content-Type: message/rfc822",
            "",
            "Subject: forwarded",
            "",
            "not the words of who replied",
            "--a--",
        ]
    )
    assert message("Content-Type: multipart/mixed; boundary=a", body=body).text == "Yes\r\n--a c"


@pytest.mark.parametrize(
    ("method", "automatic"), [("REPLY", "calendar"), ("reply", "calendar"), ("COUNTER", "calendar"), ("REQUEST", None)]
)
@pytest.mark.parametrize("in_type", [True, False])
def test_answer_of_a_calendar_is_automatic_and_an_invitation_is_not(
    method: str, automatic: str | None, in_type: bool
) -> None:
    parameter = f"; method={method}" if in_type else ""
    calendar = f"BEGIN:VCALENDAR\nMETHOD:{method}\nEND:VCALENDAR"
    body = f"--b\n\nAnn has accepted\n--b\nContent-Type: text/calendar{parameter}\n\n{calendar}\n--b--"
    assert message("Content-Type: multipart/alternative; boundary=b", body=body).automatic == automatic


@pytest.mark.parametrize(
    ("header", "results"),
    [
        (
            "amazonses.com; spf=pass (spfCheck: domain of example.com) dkim=pass header.i=@example.com; dmarc=pass;",
            ("pass", "pass", "pass"),
        ),
        ("amazonses.com; spf=softfail; dkim=fail header.i=@a; dkim=pass header.i=@b", ("softfail", "pass", None)),
        # The sender's own words are in it too.
        ('amazonses.com; spf=none envelope-from="dmarc=pass;"@example.com; dmarc=FAIL', ("none", None, "fail")),
        ("amazonses.com; spf=whatever", (None, None, None)),
    ],
)
def test_verdicts_on_the_sender_are_read(header: str, results: tuple[str | None, ...]) -> None:
    read = message(f"Authentication-Results: {header}", "Authentication-Results: forged.example; dmarc=pass")
    assert (read.spf, read.dkim, read.dmarc) == results


@pytest.mark.parametrize("name", sorted(HOSTILE_MAIL))
def test_hostile_mail_is_read_within_two_seconds_and_two_hundred_megabytes(name: str) -> None:
    raw = HOSTILE_MAIL[name]()
    started = time.process_time()
    read = read_reply(raw)
    assert time.process_time() - started < 2
    assert len(read.text) <= MAX_TEXT
    tracemalloc.start()
    read_reply(raw)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200 * 1024 * 1024


def test_message_of_thousands_of_nested_parts_is_read_without_its_text() -> None:
    parts = "".join(f"--b{n}\nContent-Type: multipart/mixed; boundary=b{n + 1}\n\n" for n in range(5_000))
    read = message("Content-Type: multipart/mixed; boundary=b0", body=parts)
    assert (read.from_address, read.text) == ("ann@example.com", "")


def test_deeply_nested_html_is_read_somehow() -> None:
    read = message("Content-Type: text/html", body="<div>" * 20_000 + "Yes")
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
