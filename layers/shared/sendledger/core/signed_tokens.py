"""Signed tokens: which email an unsubscribe link or a reply address belongs to, and what a person has confirmed. Reads
and writes no table.

A token names the email and nothing about the person. It is signed with HMAC-SHA256; the key's id goes with it, so that
keys can be replaced while links that were sent long ago go on working. A token that does not verify gives None, after
the same amount of work, so that the reason is not revealed.

    unsubscribe   <key id>.<base64url of: version, scheduled email, campaign, lead, signature>e
    reply         <key id>.<hexadecimal of: scheduled email, signature>: mail systems may change the case of letters
    confirmation  <key id>.<hexadecimal of: end in seconds since 1970, signature>; what is confirmed is only signed
"""

from __future__ import annotations

import base64
import hmac
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

VERSION = 1
REPLY_PREFIX = "reply+"
"""Begins the local part of a reply address; a token follows."""

_UNSUBSCRIBE_BYTES = 1 + 8 + 16 + 16
_SIGNATURE_BYTES = 16
_END = "e"
"""The last letter of an unsubscribe token. Programs that make links out of text leave a final - or _ out."""

# Tokens from before `_END` have 76 characters, or 75 where such a program has cut the last one off.
_UNSUBSCRIBE_TOKEN = re.compile(
    rf"([a-z0-9]{{1,8}})\.([A-Za-z0-9_-]{{75}})([A-Za-z0-9_-]?){_END}?(?:[^A-Za-z0-9].*)?", re.DOTALL | re.ASCII
)
# With its prefix at most the 64 characters that a local part may have.
_REPLY_TOKEN = re.compile(r"([a-z0-9]{1,8})\.([0-9a-f]{48})", re.ASCII)
_CONFIRMATION_TOKEN = _REPLY_TOKEN


@dataclass(frozen=True)
class TokenKey:
    """One key; `secret` is not shown when the key is."""

    id: str
    secret: bytes

    def __repr__(self) -> str:
        return f"TokenKey({self.id!r})"


@dataclass(frozen=True)
class EmailReference:
    """The email that an unsubscribe link came with."""

    scheduled_email_id: int
    campaign_id: uuid.UUID
    lead_id: uuid.UUID


class TokenKeys:
    """Signs with the first key and verifies with all of them."""

    def __init__(self, keys: Sequence[TokenKey]) -> None:
        self._signing = keys[0]
        self._secrets = {key.id: key.secret for key in keys}

    def unsubscribe_token(self, email: EmailReference) -> str:
        key = self._signing
        payload = (
            VERSION.to_bytes(1) + email.scheduled_email_id.to_bytes(8) + email.campaign_id.bytes + email.lead_id.bytes
        )
        signature = _sign(key.secret, b"unsubscribe", key.id, payload)[:_SIGNATURE_BYTES]
        return f"{key.id}.{base64.urlsafe_b64encode(payload + signature).decode()}{_END}"

    def read_unsubscribe_token(self, token: str) -> EmailReference | None:
        """The email that the token was made for, or None.

        A sign after the token is ignored with all that follows: programs read it as part of the link.
        """
        found = _UNSUBSCRIBE_TOKEN.fullmatch(token[:200])
        key_id, encoded, last = found.groups() if found else ("", "A" * 75, "A")
        for end in (last, last) if last else ("-", "_"):
            decoded = base64.urlsafe_b64decode(encoded + end)
            payload, signature = decoded[:_UNSUBSCRIBE_BYTES], decoded[_UNSUBSCRIBE_BYTES:]
            if self._verified(b"unsubscribe", key_id, payload, signature) and payload[0] == VERSION:
                return EmailReference(
                    scheduled_email_id=int.from_bytes(payload[1:9]),
                    campaign_id=uuid.UUID(bytes=payload[9:25]),
                    lead_id=uuid.UUID(bytes=payload[25:41]),
                )
        return None

    def reply_token(self, scheduled_email_id: int) -> str:
        key = self._signing
        payload = scheduled_email_id.to_bytes(8)
        signature = _sign(key.secret, b"reply", key.id, payload)[:_SIGNATURE_BYTES]
        return f"{key.id}.{(payload + signature).hex()}"

    def read_reply_token(self, token: str) -> int | None:
        """The id of the scheduled email that the token was made for, or None."""
        found = _REPLY_TOKEN.fullmatch(token.lower())
        key_id, encoded = found.groups() if found else ("", "0" * 48)
        decoded = bytes.fromhex(encoded)
        payload, signature = decoded[:8], decoded[8:]
        if not self._verified(b"reply", key_id, payload, signature):
            return None
        return int.from_bytes(payload)

    def confirmation_token(self, subject: str, until: int) -> str:
        """Says that a person allows `subject` until then (seconds since 1970)."""
        key, end = self._signing, until.to_bytes(8)
        signature = _sign(key.secret, b"confirmation", key.id, end + subject.encode())[:_SIGNATURE_BYTES]
        return f"{key.id}.{(end + signature).hex()}"

    def confirms(self, token: str, subject: str, now: int) -> bool:
        """Whether the token allows this subject now."""
        found = _CONFIRMATION_TOKEN.fullmatch(token.strip().lower())
        key_id, encoded = found.groups() if found else ("", "0" * 48)
        decoded = bytes.fromhex(encoded)
        end, signature = decoded[:8], decoded[8:]
        return self._verified(b"confirmation", key_id, end + subject.encode(), signature) and now < int.from_bytes(end)

    def _verified(self, purpose: bytes, key_id: str, payload: bytes, signature: bytes) -> bool:
        # An unknown key takes the same time as a known one, so that response times do not reveal key ids.
        secret = self._secrets.get(key_id, bytes(32))
        expected = _sign(secret, purpose, key_id, payload)[: len(signature)]
        return hmac.compare_digest(expected, signature) and key_id in self._secrets


def _sign(secret: bytes, purpose: bytes, key_id: str, payload: bytes) -> bytes:
    """The purpose is signed too. A reply address is visible to others and must not work as an unsubscribe link."""
    return hmac.digest(secret, purpose + b"\0" + key_id.encode() + b"\0" + payload, "sha256")
