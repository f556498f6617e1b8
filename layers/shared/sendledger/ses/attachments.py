"""Attachments as SESv2's SendEmail takes them: files in, a part of the request out. Uses no table.

https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_Attachment.html
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json

ATTACHMENTS_BEFORE = b'{"Content":{"Simple":{'
"""What a request begins with; the attachments come next."""


@dataclass(frozen=True)
class AttachedFile:
    """A file. One with a content id is shown where the HTML names that."""

    file_name: str
    content_type: str
    content_id: str | None
    content: bytes

    def parameters(self) -> dict[str, Any]:
        """As boto3 takes it."""
        found: dict[str, Any] = {
            "FileName": self.file_name,
            "ContentType": self.content_type,
            "ContentDisposition": "ATTACHMENT" if self.content_id is None else "INLINE",
            # SES would take the content for 7-bit text.
            "ContentTransferEncoding": "BASE64",
            "RawContent": self.content,
        }
        return found if self.content_id is None else {**found, "ContentId": self.content_id}


class EncodedAttachments:
    """The beginning of a request with these attachments. All emails with them share its bytes and their hash: encoding
    and hashing 10 MB takes tens of milliseconds."""

    def __init__(self, attachments: Sequence[AttachedFile]) -> None:
        parts = [ATTACHMENTS_BEFORE, b'"Attachments":[']
        for number, attachment in enumerate(attachments):
            values = attachment.parameters()
            content = base64.b64encode(values.pop("RawContent"))
            # The content is not copied once more by the encoder.
            parts += [b"," if number else b"", to_json(values)[:-1], b',"RawContent":"', content, b'"}']
        self.body = b"".join((*parts, b"],"))
        self.hashed = hashlib.sha256(self.body)
