"""API keys: who may call the API, and how much of it. The key itself is never stored.

The last administrator key cannot be revoked. Reads and writes `api_keys`;
writes `audit_log`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import secrets
from dataclasses import dataclass, field
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from sendledger.access.callers import Caller, key_holder
from sendledger.core import audit_log, postgres_values
from sendledger.core.audit_log import SYSTEM
from sendledger.core.errors import Conflict, FieldError, InvalidInput, NotFound
from sendledger.core.pagination import NEWEST_FIRST, Page, sorted_page
from sendledger.core.tables import api_keys
from sendledger.core.vocabulary import AuditAction, Role

NOTICE = dt.timedelta(days=30)
"""A notice is shown when the last administrator's key expires within this time."""

LAST_USE_PRECISION = dt.timedelta(minutes=1)
"""`last_used_at` may lag by this much. So a busy key costs one write a minute, not one for each request."""


_FORM = re.compile(r"sl_[A-Za-z0-9_-]{43}", re.ASCII)


@dataclass(frozen=True)
class CreatedApiKey:
    """A new key; this is the only time that `key` can be seen."""

    id: UUID
    name: str
    role: str
    key: str = field(repr=False)
    expires_at: dt.datetime | None
    created_at: dt.datetime


def create(
    connection: sa.Connection,
    name: str,
    role: str,
    expires_at: dt.datetime | None = None,
    *,
    actor: str = SYSTEM,
    key: str | None = None,
) -> CreatedApiKey:
    """Store a new random key, or `key`. A stored `key` gets the new name, role and expiry.

    Raises:
        InvalidInput: the name is blank, or the key would have expired already.
    """
    errors = []
    if not name.strip():
        errors.append(FieldError("name", "must not be blank"))
    if expires_at is not None and expires_at <= connection.execute(sa.select(sa.func.now())).scalar_one():
        errors.append(FieldError("expires_at", "must lie in the future"))
    if errors:
        raise InvalidInput("The API key is not valid.", errors)
    key = key or f"sl_{secrets.token_urlsafe(32)}"
    values = {"name": name, "role": role, "expires_at": expires_at, "revoked_at": None}
    row = connection.execute(
        insert(api_keys)
        .values(key_hash=_hash(key), **values)
        .on_conflict_do_update(index_elements=["key_hash"], set_=values)
        .returning(api_keys.c.id, api_keys.c.created_at)
    ).one()
    audit_log.record(connection, actor, AuditAction.API_KEY_CREATE, "api_key", row.id, {"role": role})
    return CreatedApiKey(row.id, name, role, key, expires_at, row.created_at)


def exist(connection: sa.Connection) -> bool:
    """Whether any key has ever been made, revoked and expired ones included."""
    return bool(connection.scalar(sa.select(sa.exists().where(api_keys.c.id.is_not(None)))))


def has_form(key: str) -> bool:
    """Whether this has the form of a key. Other texts are refused without a query."""
    return _FORM.fullmatch(key) is not None


def list_page(connection: sa.Connection, limit: int, cursor: str | None, sort: str = NEWEST_FIRST) -> Page:
    """A page of keys without their secrets; revoked and expired ones too."""
    shown = [column for column in api_keys.c if column.name != "key_hash"]
    return sorted_page(connection, sa.select(*shown), api_keys, limit, cursor, sort)


def revoke(connection: sa.Connection, api_key_id: UUID, caller: Caller, *, force: bool = False) -> None:
    """End a key immediately and permanently. Revoking it again changes nothing. `force` lets a key revoke itself.

    Raises:
        NotFound: there is no such key.
        Conflict: the caller uses it, or no other key of an administrator is valid for as long.
    """
    valid_administrators = (
        sa.select(api_keys.c.id, api_keys.c.expires_at)
        .where(api_keys.c.role == Role.ADMIN, *is_valid())
        # A lock: if two administrators revoke each other's key, the second one sees the first revocation.
        .order_by(api_keys.c.id)
        .with_for_update()
    )
    lasting = {row.id: row.expires_at or postgres_values.LATEST for row in connection.execute(valid_administrators)}
    if api_key_id == caller.id and not force:
        raise Conflict("This is the key that you are using; say force=true to revoke it all the same.")
    ends = lasting.pop(api_key_id, None)
    if ends is not None and all(end < ends for end in lasting.values()):
        raise Conflict(
            "This is the last key of an administrator, or the one that is valid longest. Create another one that is "
            "valid for at least as long first."
        )
    revoked = connection.execute(
        sa.update(api_keys)
        .where(api_keys.c.id == api_key_id)
        .values(revoked_at=sa.func.coalesce(api_keys.c.revoked_at, sa.func.now()))
    )
    if revoked.rowcount == 0:
        raise NotFound("API key", api_key_id)
    audit_log.record(connection, caller.actor, AuditAction.API_KEY_REVOKE, "api_key", api_key_id)


def administrators_until(connection: sa.Connection) -> dt.datetime | None:
    """When the last key of an administrator expires or has expired, if that is in less than `NOTICE`; else None."""
    expiry = sa.func.max(sa.func.coalesce(api_keys.c.expires_at, sa.text("'infinity'::timestamptz")))
    last = sa.select(expiry.label("expiry")).where(api_keys.c.role == Role.ADMIN, api_keys.c.revoked_at.is_(None))
    found = last.subquery()
    soon = sa.select(found.c.expiry).where(found.c.expiry < sa.func.now() + NOTICE)
    return connection.execute(soon).scalar_one_or_none()


def is_valid() -> tuple[sa.ColumnElement[bool], ...]:
    """The conditions of a key that is neither revoked nor expired."""
    expiry = api_keys.c.expires_at
    return api_keys.c.revoked_at.is_(None), sa.or_(expiry.is_(None), expiry > sa.func.now())


def authenticate(connection: sa.Connection, key: str) -> Caller | None:
    """The holder of this key, or None if the key is unknown, expired or revoked.

    The look-up compares hashes, so its time reveals nothing about the key.
    """
    now = sa.func.now()
    seen = api_keys.c.last_used_at
    outdated = sa.or_(seen.is_(None), seen < now - LAST_USE_PRECISION)
    row = connection.execute(
        sa.select(api_keys.c.id, api_keys.c.name, api_keys.c.role, outdated.label("outdated")).where(
            api_keys.c.key_hash == _hash(key), *is_valid()
        )
    ).one_or_none()
    if row is None:
        return None
    if row.outdated:
        connection.execute(sa.update(api_keys).where(api_keys.c.id == row.id, outdated).values(last_used_at=now))
    return key_holder(row.id, row.name, row.role)


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
