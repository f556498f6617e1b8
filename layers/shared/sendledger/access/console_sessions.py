"""Sessions of the console: who has signed in with an API key, and how often an address may try.

A key goes in, a token for a cookie comes out; only its hash is stored. A session ends after `SESSION_LASTS`, when it is
ended, and when its key is revoked or expires. Reads and writes `console_sessions` and `console_sign_in_attempts`; reads
`api_keys`; writes `audit_log`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
import re
import secrets

import sqlalchemy as sa

from sendledger.access import api_keys
from sendledger.access.callers import Caller, key_holder
from sendledger.core import audit_log
from sendledger.core.tables import api_keys as keys
from sendledger.core.tables import console_sessions, console_sign_in_attempts
from sendledger.core.vocabulary import AuditAction

SESSION_LASTS = dt.timedelta(hours=8)

FREE_ATTEMPTS = 5
"""So many attempts need not wait. After that each wait is twice as long as the one before."""
LONGEST_WAIT = dt.timedelta(minutes=15)
ATTEMPTS_FORGOTTEN_AFTER = dt.timedelta(hours=1)

_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)

# The attempt is counted before its key is looked at: of many at the same time each one counts. The row's lock makes
# them wait for each other.
_COUNT_ATTEMPT = sa.text("""
    INSERT INTO console_sign_in_attempts AS known (address, attempts) VALUES (:address, 1)
    ON CONFLICT (address) DO UPDATE SET
        attempts = CASE WHEN known.last_at < now() - :forgotten THEN 1 ELSE known.attempts + 1 END,
        last_at = now(),
        retry_at = CASE WHEN known.last_at < now() - :forgotten OR known.attempts + 1 < :free THEN now()
            ELSE now() + least(:longest, interval '1 second' * 2 ^ least(known.attempts + 1 - :free, 20)) END
    WHERE known.retry_at <= now()
    RETURNING address
""").bindparams(sa.bindparam("forgotten", type_=sa.Interval), sa.bindparam("longest", type_=sa.Interval))


def count_attempt(connection: sa.Connection, address: str) -> int | None:
    """Count an attempt of this network address; the seconds to wait if it may not try now. The caller commits at once.

    Of IPv6 the network of 64 bits counts: a single customer has all its addresses.
    """
    table = console_sign_in_attempts
    network = _network(address)
    connection.execute(sa.delete(table).where(table.c.last_at < sa.func.now() - ATTEMPTS_FORGOTTEN_AFTER))
    limits = {"forgotten": ATTEMPTS_FORGOTTEN_AFTER, "longest": LONGEST_WAIT, "free": FREE_ATTEMPTS}
    if connection.execute(_COUNT_ATTEMPT, {"address": network, **limits}).first() is not None:
        return None
    wait = sa.func.ceil(sa.extract("epoch", table.c.retry_at - sa.func.now()))
    return max(1, int(connection.scalar(sa.select(wait).where(table.c.address == network)) or 1))


def open_session(connection: sa.Connection, key: str, address: str) -> str | None:
    """The token of a new session, or None if the key is unknown, expired or revoked. A good key forgets the attempts.

    Sessions that are over are deleted on this occasion.
    """
    caller = api_keys.authenticate(connection, key)
    if caller is None:
        return None
    connection.execute(sa.delete(console_sessions).where(console_sessions.c.expires_at <= sa.func.now()))
    token = secrets.token_urlsafe(32)
    connection.execute(
        sa.insert(console_sessions).values(
            token_hash=_hash(token), api_key_id=caller.id, expires_at=sa.func.now() + SESSION_LASTS
        )
    )
    audit_log.record(connection, caller.actor, AuditAction.CONSOLE_SIGN_IN, "api_key", caller.id)
    attempts = console_sign_in_attempts
    connection.execute(sa.delete(attempts).where(attempts.c.address == _network(address)))
    return token


def has_form(token: str) -> bool:
    """Whether this has the form of a session's token. Other texts are refused without a query."""
    return _TOKEN.fullmatch(token) is not None


def find_caller(connection: sa.Connection, token: str) -> Caller | None:
    """The holder of the key that opened the session; None if it is over, was ended, or its key is no longer valid."""
    found = connection.execute(
        sa.select(keys.c.id, keys.c.name, keys.c.role)
        .join(console_sessions, console_sessions.c.api_key_id == keys.c.id)
        .where(
            console_sessions.c.token_hash == _hash(token),
            console_sessions.c.expires_at > sa.func.now(),
            *api_keys.is_valid(),
        )
    ).one_or_none()
    return found and key_holder(found.id, found.name, found.role)


def end_session(connection: sa.Connection, token: str) -> None:
    connection.execute(sa.delete(console_sessions).where(console_sessions.c.token_hash == _hash(token)))


def end_all_sessions(connection: sa.Connection, caller: Caller) -> None:
    """End every session that the caller's key has opened, wherever."""
    connection.execute(sa.delete(console_sessions).where(console_sessions.c.api_key_id == caller.id))


def _network(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else str(parsed)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
