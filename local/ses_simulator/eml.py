"""Puts an accepted email together as the RFC 5322 message that SES would hand to the recipient's mail server."""

from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import format_datetime

from local.ses_simulator.ledger import AcceptedEmail, AttachedFile
from local.ses_simulator.tracking import delivered_html

MAX_LINE = 998  # RFC 5322, 2.1.1


class _SesPolicy(EmailPolicy):
    """Leaves ASCII headers on one line, as SES does with custom ones: the standard folding of a long URL without a
    space makes it an encoded word, which no mail client takes for an unsubscribe link."""

    def fold(self, name: str, value: str) -> str:
        line = f"{name}: {value}"
        return f"{line}\r\n" if line.isascii() and len(line) <= MAX_LINE else super().fold(name, value)

    def fold_binary(self, name: str, value: str) -> bytes:
        return self.fold(name, value).encode("ascii")


def assemble(email: AcceptedEmail, *, region: str) -> bytes:
    """The message to its first recipient. A Raw message comes out as it was given."""
    if email.raw is not None:
        return email.raw
    message = EmailMessage(_SesPolicy(linesep="\r\n"))
    simple = email.request["Content"]["Simple"]
    message["From"] = email.from_address
    if email.reply_to:
        message["Reply-To"] = ", ".join(email.reply_to)
    if email.to:
        message["To"] = ", ".join(email.to)
    if email.cc:
        message["Cc"] = ", ".join(email.cc)
    message["Subject"] = _encodable(email.subject, simple["Subject"])
    message["Date"] = format_datetime(email.accepted_at)
    domain = "email.amazonses.com" if region == "us-east-1" else f"{region}.amazonses.com"
    message["Message-ID"] = f"<{email.message_id}@{domain}>"
    for name, value in email.headers:
        message.set_raw(name, value)  # unlike message[name] = value it lets a name come twice, as SES does
    message["Feedback-ID"] = f"::1.{region}.c2ltdWxhdGVk:AmazonSES"
    message["X-SES-Outgoing"] = f"{email.accepted_at:%Y.%m.%d}-192.0.2.1"
    _add_parts(message, email, simple["Body"], delivered_html(email, region))
    _add_files(message, email.attachments)
    return message.as_bytes()


def _add_parts(message: EmailMessage, email: AcceptedEmail, body: dict[str, dict[str, str]], html: str | None) -> None:
    if email.text is not None:
        message.set_content(_encodable(email.text, body["Text"]), cte="quoted-printable")
    if html is not None:
        html = _encodable(html, body["Html"])
        if email.text is None:
            message.set_content(html, subtype="html", cte="quoted-printable")
        else:
            message.add_alternative(html, subtype="html", cte="quoted-printable")


def _add_files(message: EmailMessage, files: list[AttachedFile]) -> None:
    """Pictures beside the HTML that shows them (multipart/related), then the other files (multipart/mixed)."""
    html = message.get_body(("html",))
    for file in sorted(files, key=lambda each: each.content_id is None):
        maintype, _, subtype = file.content_type.partition("/")
        if file.content_id is not None and isinstance(html, EmailMessage):
            html.add_related(
                *(file.content, maintype, subtype),
                cid=f"<{file.content_id}>",
                disposition="inline",
                filename=file.file_name,
            )
        else:
            message.add_attachment(file.content, maintype, subtype, filename=file.file_name)
    for part in message.walk():
        if part is not message:
            del part["MIME-Version"]  # belongs to the whole message only (RFC 2045, 4)


def _encodable(text: str, content: dict[str, str]) -> str:
    """What is left of a text in the charset given with it; without one SES takes it for 7-bit ASCII."""
    charset = content.get("Charset") or "ascii"
    return text.encode(charset, "replace").decode(charset)
