"""The durable ledger of every SendEmail request that was accepted: one JSON line each, written before the answer.

In: the request body as it came, with the message id that it got. Out: AcceptedEmail values by number (1, 2, 3, …).
A line reaches the operating system before `append` returns, so it survives the death of this process. A line that was
cut off by a crash was never answered and is dropped when the file is opened again. Without a path the ledger is an
unnamed temporary file. What is kept in memory per email is 16 bytes and its message id.
"""

import base64
import fcntl
import itertools
import json
import os
import tempfile
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import Any

_LINE_START = b'{"message_id":"'


class LedgerInUseError(Exception):
    """Another simulator is writing this ledger."""


@dataclass(frozen=True, slots=True)
class AttachedFile:
    """One of the attachments of a Simple request; `content_id` where it is shown in the HTML."""

    file_name: str
    content_type: str
    content_id: str | None
    content: bytes


@dataclass(frozen=True, slots=True)
class AcceptedEmail:
    """One accepted SendEmail request; `suppressed` are the recipients on the account's suppression list at that time.

    `raw` is the message of a Raw request; its subject, parts and headers are then read out of it.
    """

    number: int
    accepted_at: datetime
    message_id: str
    from_address: str
    to: tuple[str, ...]
    cc: tuple[str, ...]
    bcc: tuple[str, ...]
    reply_to: tuple[str, ...]
    subject: str
    text: str | None
    html: str | None
    headers: tuple[tuple[str, str], ...]
    tags: dict[str, str]
    configuration_set: str | None
    suppressed: tuple[str, ...]
    raw: bytes | None
    request: dict[str, Any]

    @property
    def destination(self) -> tuple[str, ...]:
        return self.to + self.cc + self.bcc

    @property
    def attachments(self) -> list[AttachedFile]:
        simple = self.request["Content"].get("Simple") or {}
        return [
            AttachedFile(
                each["FileName"],
                each.get("ContentType") or "application/octet-stream",
                (each.get("ContentId") or None) if each.get("ContentDisposition") == "INLINE" else None,
                base64.b64decode(each["RawContent"]),
            )
            for each in simple.get("Attachments") or ()
        ]

    def header(self, name: str) -> str | None:
        """The value of the first custom header of that name, in any case."""
        return next((value for given, value in self.headers if given.lower() == name.lower()), None)


class Ledger:
    """Raises LedgerInUseError where another process holds the file."""

    def __init__(self, path: Path | None = None) -> None:
        if path is None:
            with tempfile.TemporaryFile(prefix="ses-ledger-") as unnamed:
                self._file = os.dup(unnamed.fileno())
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(self._file)
                raise LedgerInUseError(f"{path} is in use by another SES simulator") from error
        self._ends = array("Q")  # where each line ends; one append makes an entry visible to other threads
        self._numbers: dict[str, int] = {}
        self._open_file()

    def _open_file(self) -> None:
        with os.fdopen(os.dup(self._file), "rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._index(line[len(_LINE_START) : line.index(b'"', len(_LINE_START))].decode(), len(line))
        os.ftruncate(self._file, self._size())

    def _index(self, message_id: str, length: int) -> None:
        self._ends.append(self._size() + length)
        self._numbers[message_id] = len(self._ends)

    def _size(self) -> int:
        return self._ends[-1] if self._ends else 0

    def append(self, message_id: str, accepted_at: datetime, suppressed: tuple[str, ...], body: bytes) -> int:
        """Returns the number of the new entry. On a full disk nothing is kept and OSError is raised."""
        if b"\n" in body:
            body = json.dumps(json.loads(body)).encode()
        # The body is known to be JSON: putting it in as it is saves the time of encoding it again.
        line = b'%b%b","accepted_at":"%b","suppressed":%b,"request":%b}\n' % (
            _LINE_START,
            message_id.encode(),
            accepted_at.isoformat().encode(),
            json.dumps(suppressed).encode() if suppressed else b"[]",
            body,
        )
        size, written = self._size(), 0
        try:
            while written < len(line):
                written += os.pwrite(self._file, line[written:] if written else line, size + written)
        except OSError:
            os.ftruncate(self._file, size)
            raise
        self._index(message_id, len(line))
        return len(self._ends)

    def __len__(self) -> int:
        return len(self._ends)

    def read(self, number: int) -> AcceptedEmail:
        return _accepted_email(number, json.loads(self._line(number)))

    def find(self, message_id: str) -> AcceptedEmail | None:
        number = self._numbers.get(message_id)
        return None if number is None else self.read(number)

    def after(self, number: int) -> Iterator[AcceptedEmail]:
        """The entries with a higher number, oldest first, up to the last one there is now."""
        return (self.read(each) for each in range(max(number, 0) + 1, len(self) + 1))

    def newest_first(self, recipient: str = "") -> Iterator[AcceptedEmail]:
        """Entries of which a destination contains `recipient`, in any case."""
        wanted = recipient.lower()
        for number in range(len(self), 0, -1):
            line = self._line(number)
            if wanted and json.dumps(wanted)[1:-1].encode() not in line.lower():
                continue
            email = _accepted_email(number, json.loads(line))
            if not wanted or any(wanted in address.lower() for address in email.destination):
                yield email

    def sent_since(self, cutoff: datetime) -> list[tuple[datetime, int]]:
        """When how many recipients were accepted, oldest first."""
        recent = itertools.takewhile(lambda email: email.accepted_at >= cutoff, self.newest_first())
        return [(email.accepted_at, len(email.destination)) for email in recent][::-1]

    def clear(self) -> None:
        os.ftruncate(self._file, 0)
        self._ends = array("Q")
        self._numbers = {}

    def close(self) -> None:
        os.close(self._file)

    def _line(self, number: int) -> bytes:
        start = self._ends[number - 2] if number > 1 else 0
        return os.pread(self._file, self._ends[number - 1] - start, start)


def _accepted_email(number: int, entry: dict[str, Any]) -> AcceptedEmail:
    request: dict[str, Any] = entry["request"]
    destination = request.get("Destination") or {}
    raw: bytes | None = None
    if request["Content"].get("Raw"):
        raw = base64.b64decode(request["Content"]["Raw"]["Data"])
        subject, text, html, headers, sender = _read_message(raw)
    else:
        simple = request["Content"]["Simple"]
        subject = simple["Subject"]["Data"]
        text, html = ((simple["Body"].get(part) or {}).get("Data") for part in ("Text", "Html"))
        headers = tuple((header["Name"], header["Value"]) for header in simple.get("Headers") or ())
        sender = ""
    return AcceptedEmail(
        number=number,
        accepted_at=datetime.fromisoformat(entry["accepted_at"]),
        message_id=entry["message_id"],
        from_address=request.get("FromEmailAddress") or sender,
        to=tuple(destination.get("ToAddresses") or ()),
        cc=tuple(destination.get("CcAddresses") or ()),
        bcc=tuple(destination.get("BccAddresses") or ()),
        reply_to=tuple(request.get("ReplyToAddresses") or ()),
        subject=subject,
        text=text,
        html=html,
        headers=headers,
        tags={tag["Name"]: tag["Value"] for tag in request.get("EmailTags") or ()},
        configuration_set=request.get("ConfigurationSetName") or None,
        suppressed=tuple(entry["suppressed"]),
        raw=raw,
        request=request,
    )


def _read_message(raw: bytes) -> tuple[str, str | None, str | None, tuple[tuple[str, str], ...], str]:
    message = message_from_bytes(raw, _class=EmailMessage, policy=SMTP)
    text, html = message.get_body(("plain",)), message.get_body(("html",))
    return (
        str(message.get("Subject", "")),
        text.get_content() if isinstance(text, EmailMessage) else None,
        html.get_content() if isinstance(html, EmailMessage) else None,
        tuple((name, str(value)) for name, value in message.items()),
        str(message.get("From", "")),
    )
