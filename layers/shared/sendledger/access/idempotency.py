"""Idempotency keys: a request that is repeated with its key gets the first answer and is not executed again.

Reads and writes `idempotency_keys`. The rules follow draft-ietf-httpapi-idempotency-key-header: the same key with
another request is an error of the caller, and a request that is still being processed is a conflict.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from sendledger.core.errors import Conflict, FieldError, InvalidInput
from sendledger.core.tables import idempotency_keys

KEPT = dt.timedelta(hours=24)
"""How long an answer is kept."""

ABANDONED = dt.timedelta(seconds=60)
"""A request without an answer for this long has crashed: API Gateway ends it after 29 s. It may be retried."""


@dataclass(frozen=True)
class KeptAnswer:
    """The answer that the first request got."""

    status: int
    answer: dict[str, Any]


class RequestInProgress(Conflict):
    """The first request with this key has not been answered yet."""

    code = "request_in_progress"


def request_hash(method: str, path: str, query: str, body: bytes) -> str:
    """The fingerprint of a request."""
    parts = json.dumps([method, path, query]).encode()
    return hashlib.sha256(parts + b"\n" + body).hexdigest()


def begin(connection: sa.Connection, caller_id: UUID, key: str, hash_: str) -> KeptAnswer | None:
    """Reserve the key for this request, or return the stored answer. The caller commits immediately.

    Raises:
        InvalidInput: the key was used for another request.
        RequestInProgress: the first request is still being worked on.
    """
    connection.execute(
        sa.delete(idempotency_keys).where(
            idempotency_keys.c.caller_id == caller_id, idempotency_keys.c.started_at < sa.func.now() - KEPT
        )
    )
    taken = connection.execute(
        insert(idempotency_keys)
        .values(caller_id=caller_id, key=key, request_hash=hash_)
        .on_conflict_do_update(
            index_elements=[idempotency_keys.c.caller_id, idempotency_keys.c.key],
            set_={"started_at": sa.func.now()},
            where=idempotency_keys.c.status.is_(None)
            & (idempotency_keys.c.request_hash == hash_)
            & (idempotency_keys.c.started_at < sa.func.now() - ABANDONED),
        )
        .returning(idempotency_keys.c.key)
    ).first()
    if taken is not None:
        return None
    found = connection.execute(
        sa.select(idempotency_keys).where(idempotency_keys.c.caller_id == caller_id, idempotency_keys.c.key == key)
    ).one()
    if found.request_hash != hash_:
        message = "was used for another request; use a new key for each request"
        raise InvalidInput("The Idempotency-Key does not fit.", [FieldError("Idempotency-Key", message)])
    if found.status is None:
        raise RequestInProgress("The first request with this Idempotency-Key is still being worked on.")
    return KeptAnswer(found.status, found.answer)


def keep(connection: sa.Connection, caller_id: UUID, key: str, status: int, answer: dict[str, Any]) -> None:
    """Keep the answer for the requests that repeat this one."""
    connection.execute(
        sa.update(idempotency_keys)
        .where(idempotency_keys.c.caller_id == caller_id, idempotency_keys.c.key == key)
        .values(status=status, answer=answer)
    )


def forget(connection: sa.Connection, caller_id: UUID, key: str) -> None:
    """Forget the request, so that the client may try again."""
    connection.execute(
        sa.delete(idempotency_keys).where(idempotency_keys.c.caller_id == caller_id, idempotency_keys.c.key == key)
    )
