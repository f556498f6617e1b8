"""Reading a reply: the raw message (RFC 5322) in, what we need of it out. Reads and writes no table.

Mail comes from anyone and may be broken in every way, so nothing here raises for what a message contains: what cannot
be read is left out. The message is parsed with the standard library, with its older policy: the newer one parses each
header by its grammar and raises on some that do not follow it.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.header import decode_header, make_header
from email.message import Message
from email.parser import BytesHeaderParser, BytesParser
from email.utils import getaddresses

MAX_MESSAGE = 10 * 1024 * 1024
"""Bytes of a message that are looked at; what comes after them are attachments."""

MAX_TEXT = 100_000
"""Characters of a reply's text that are kept."""

_MAX_HTML = 500_000
_MAX_HEADER = 10_000
_MAX_IDS = 50
_RECIPIENT_HEADERS = ("To", "Cc", "Delivered-To", "X-Original-To", "Envelope-To")
_MESSAGE_ID = re.compile(r"<[^<>\s]{1,500}>")
# The usual subjects of out-of-office mail, at the start of the subject: a person's reply starts with "Re:".
_AUTOMATIC_SUBJECT = re.compile(
    r"""\s*[\[(]?\s*(?:
        out\s+of\s+(?:the\s+)?office | ooo\s*: | automatic\s+reply | automated\s+(?:reply|response) | auto\s*: |
        auto[-\s]?(?:reply|response|responder) | vacation\s+(?:reply|response|message) | on\s+vacation\b |
        away\s+from\s+(?:the\s+office|my\s+(?:mail|email|desk)) | i\s+am\s+(?:out\s+of\s+(?:the\s+)?office|on\s+leave) |
        automatische\s+(?:antwort|antwoord|reactie) | abwesenheits(?:notiz|meldung|nachricht|assistent) | abwesend\b |
        nicht\s+im\s+b(?:ü|ue)ro | automatisch\s+antwoord | afwezigheid | niet\s+aanwezig |
        réponse\s+automatique | absence?\s+du\s+bureau | absent(?:e)?\s+du\s+bureau | message\s+d['’]absence |
        respuesta\s+autom[áa]tica | fuera\s+de\s+(?:la\s+)?oficina | ausencia\b | risposta\s+automatica | fuori\s+sede |
        fuori\s+ufficio | resposta\s+autom[áa]tica | fora\s+do\s+escrit[óo]rio | aus[êe]ncia\s+tempor[áa]ria |
        autosvar | automatiskt?\s+svar | frånvaro | fravær | poissa\b | automaattinen\s+vastaus |
        automatyczna\s+odpowied[źz] | odpowied[źz]\s+automatyczna | automatická\s+odpov[eě][ďd] |
        automatikus\s+válasz | otomatik\s+yan[ıi]t | автоматический\s+ответ | автоответ | вне\s+офиса |
        自动回复 | 自動回覆 | 自動返信 | 自動応答 | 不在通知 | 부재중 | 자동\s*회신
    )""",
    re.IGNORECASE | re.VERBOSE,
)
_SYSTEM_SENDER = re.compile(r"(?:mailer-daemon|postmaster)@", re.IGNORECASE)


@dataclass(frozen=True)
class ReadReply:
    """What a message says; addresses are lower case, ids keep their angle brackets.

    `automatic` is why nobody wrote this message by hand, as a word, or None for a message of a person.
    """

    message_id: str
    from_address: str
    to_addresses: tuple[str, ...]
    subject: str
    text: str
    referred_ids: tuple[str, ...]
    automatic: str | None


def read_reply(raw: bytes) -> ReadReply:
    """Read a message; beyond `MAX_MESSAGE` bytes it is as if there was nothing."""
    raw = raw[:MAX_MESSAGE]
    try:
        message = BytesParser().parsebytes(raw)
        text = _text(message)
    except Exception:
        # Thousands of parts within parts, for one: nobody's mail client makes such mail.
        message, text = BytesHeaderParser().parsebytes(raw), ""
    return _read(message, text, hashlib.sha256(raw).hexdigest())


def reply_from_fields(
    from_address: str,
    subject: str,
    text: str,
    *,
    message_id: str | None = None,
    to_addresses: Sequence[str] = (),
    in_reply_to: str | None = None,
    references: Sequence[str] = (),
    headers: Mapping[str, str] | None = None,
) -> ReadReply:
    """A reply of which another mail system tells the parts; `headers` are those that show whether it is automatic."""
    message = Message()
    own = {
        "From": from_address,
        "To": ", ".join(to_addresses),
        "Subject": subject,
        "Message-ID": message_id or "",
        "In-Reply-To": in_reply_to or "",
        "References": " ".join(references),
    }
    # Of a header that comes twice the first one counts.
    for name, value in (*own.items(), *(headers or {}).items()):
        if value:
            message[name] = value
    parts = repr((from_address, subject, text, in_reply_to, tuple(references)))
    return _read(message, text, hashlib.sha256(parts.encode("utf-8", "replace")).hexdigest())


def _read(message: Message, text: str, digest: str) -> ReadReply:
    subject = " ".join(_header(message, "Subject").split())
    from_address = next(_addresses(message, ("From", "Sender")), "")
    ids = _MESSAGE_ID.findall(_header(message, "Message-ID"))
    referred = [*_ids(message, "In-Reply-To"), *reversed(_ids(message, "References"))]
    return ReadReply(
        # A message without an id is told from others by its content.
        message_id=ids[0] if ids else f"sha256:{digest}",
        from_address=from_address,
        to_addresses=tuple(dict.fromkeys(_addresses(message, _RECIPIENT_HEADERS)))[:100],
        subject=subject[:500],
        text=_clean(text)[:MAX_TEXT],
        referred_ids=tuple(dict.fromkeys(referred))[:_MAX_IDS],
        automatic=_automatic(message, from_address, subject),
    )


def _automatic(message: Message, from_address: str, subject: str) -> str | None:
    """Why this is no person's mail, first reason that holds.

    https://www.rfc-editor.org/rfc/rfc3834 and what mail systems do that are older than it.
    """

    def value(name: str) -> str:
        return _header(message, name).strip().lower()

    content_type = value("Content-Type")
    # SES adds its verdicts at the top: https://docs.aws.amazon.com/ses/latest/dg/receiving-email-notifications-contents.html
    if "fail" in (value("X-SES-Spam-Verdict"), value("X-SES-Virus-Verdict")):
        return "spam"
    if content_type.startswith("multipart/report") or _SYSTEM_SENDER.match(from_address):
        return "delivery_report"
    # Parameters and comments may follow the keyword.
    if re.split(r"[;(\s]", value("Auto-Submitted"))[0] not in ("", "no"):
        return "auto_submitted"
    if value("Precedence") in ("bulk", "auto_reply", "auto-reply", "junk", "list"):
        return "precedence"
    if any(name in message for name in ("X-Autoreply", "X-Autorespond", "X-Autoresponder")) or (
        value("X-Auto-Reply") not in ("", "no")
    ):
        return "x_autoreply"
    if value("X-Auto-Response-Suppress") not in ("", "none"):
        return "auto_response_suppress"
    if "List-Id" in message:
        return "mailing_list"
    if "Return-Path" in message and value("Return-Path") in ("", "<>"):
        return "empty_return_path"
    return "subject" if _AUTOMATIC_SUBJECT.match(subject) else None


def _text(message: Message) -> str:
    """The first text that is there to be read, else the text of the first HTML."""
    html = ""
    for part in message.walk():
        if part.is_multipart() or part.get_content_disposition() == "attachment":
            continue
        kind = part.get_content_type()
        if kind == "text/plain" and (text := _content(part)).strip():
            return text
        if kind == "text/html" and not html:
            html = _content(part)[:_MAX_HTML]
    return _text_of_html(html)


def _text_of_html(html: str) -> str:
    from sendledger.content.render_email import text_from_html  # brings a template engine and an HTML parser

    try:
        return text_from_html(html)
    except Exception:
        # Elements within elements, thousands deep.
        return re.sub(r"<[^<>]*>", " ", html)


def _content(part: Message) -> str:
    payload = part.get_payload(decode=True)
    if not isinstance(payload, bytes):
        return ""
    try:
        return payload.decode(part.get_content_charset("utf-8"), "replace")
    except (LookupError, UnicodeError):
        return payload.decode("utf-8", "replace")


def _values(message: Message, name: str) -> list[str]:
    """The header's values as they stand in the message; bytes beyond ASCII are taken for UTF-8, as they mostly are."""
    wanted = name.lower()
    raw = [str(value)[:_MAX_HEADER] for each, value in message.raw_items() if each.lower() == wanted]
    return [_clean(value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")) for value in raw[:20]]


def _header(message: Message, name: str) -> str:
    """The header's first value, decoded, or an empty string."""
    value = next(iter(_values(message, name)), "")
    # An encoded word that cannot be decoded stays as it is.
    with contextlib.suppress(Exception):
        value = str(make_header(decode_header(value)))
    return _clean(value)


def _addresses(message: Message, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        for _, address in getaddresses(_values(message, name)):
            if "@" in address:
                yield address.strip().lower()[:320]


def _ids(message: Message, name: str) -> list[str]:
    return _MESSAGE_ID.findall(_header(message, name))


def _clean(text: str) -> str:
    """Without what PostgreSQL cannot store: NUL and halves of surrogate pairs."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()
