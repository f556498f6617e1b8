"""Callers of the API: holders of an API key, or persons with a token of the team's identity provider.

A verified token goes in, a `Caller` comes out. `api_keys` makes those with a key.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from uuid import UUID

from sendledger.core.vocabulary import Role


@dataclass(frozen=True)
class Caller:
    """`id` owns its idempotency keys and is in the logs. `actor` is its name in the audit log."""

    id: UUID
    name: str
    role: str
    actor: str

    def may(self, role: str) -> bool:
        roles = list(Role)
        return roles.index(Role(self.role)) >= roles.index(Role(role))


def key_holder(api_key_id: UUID, name: str, role: str) -> Caller:
    return Caller(api_key_id, name, role, f"api_key:{api_key_id}")


def token_subject(issuer: str, subject: str, role: str) -> Caller:
    """The person or program that the issuer's tokens call `subject`. It is the same for all of its tokens.

    An issuer has no fragment, so the first # ends it, whatever the subject contains. The id is a digest, because a
    subject may be an address, which must not be logged. https://openid.net/specs/openid-connect-core-1_0.html#IDToken
    """
    actor = f"jwt:{issuer}#{subject}"
    return Caller(UUID(bytes=hashlib.sha256(actor.encode()).digest()[:16]), subject, role, actor)
