"""Delivering past events once more, in small transactions: millions of them may be kept.

An endpoint and a time go in. Reads and writes `webhook_deliveries`; reads `webhook_endpoints`; writes `audit_log`.
"""

from __future__ import annotations

import datetime as dt
import time
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa

from sendledger.core import audit_log
from sendledger.core.vocabulary import AuditAction
from sendledger.webhooks import endpoints

REPLAYED_AT_ONCE = 10_000
SECONDS = 15.0
"""The API must answer within 29 s."""

_LAST = sa.text("SELECT coalesce(max(id), 0) FROM webhook_deliveries WHERE endpoint_id = :endpoint_id")
_REPLAY = sa.text("""
    WITH chunk AS MATERIALIZED (
        SELECT id FROM webhook_deliveries
        WHERE endpoint_id = :endpoint_id AND id > :after AND id <= :last AND occurred_at >= :since
        ORDER BY id LIMIT :most FOR NO KEY UPDATE
    ), replayed AS (
        UPDATE webhook_deliveries d
        SET status = 'pending', attempts = 0, first_attempt_at = NULL, next_attempt_at = now()
        FROM chunk WHERE d.id = chunk.id
        RETURNING d.id
    )
    SELECT count(*), max(id) FROM replayed
""").bindparams(sa.bindparam("endpoint_id", type_=sa.UUID), sa.bindparam("since", type_=sa.DateTime(True)))


class Replayed(NamedTuple):
    """`next_after` is None when all were taken; else those with a higher id are left."""

    events: int
    next_after: int | None


def replay(engine: sa.Engine, endpoint_id: UUID, since: dt.datetime, actor: str, after: int = 0) -> Replayed:
    """Deliver everything since then once more, what was delivered too; of ids above `after`.

    Each event keeps its id, so that a receiver can tell what it knows already. If we crash midway, a part is delivered
    once more.

    Raises:
        NotFound
    """
    until, events = time.monotonic() + SECONDS, 0
    with engine.begin() as connection:
        endpoints.get(connection, endpoint_id)
        # What happens from now on is delivered in any case.
        last = connection.scalar(_LAST, {"endpoint_id": endpoint_id})
        action, detail = AuditAction.WEBHOOK_ENDPOINT_REPLAY, {"since": since.isoformat()}
        audit_log.record(connection, actor, action, "webhook_endpoint", endpoint_id, detail)
    given = {"endpoint_id": endpoint_id, "since": since, "last": last, "most": REPLAYED_AT_ONCE}
    while True:
        with engine.begin() as connection:
            count, highest = connection.execute(_REPLAY, {**given, "after": after}).one()
        events += count
        if count < REPLAYED_AT_ONCE:
            return Replayed(events, None)
        after = highest
        if time.monotonic() > until:
            return Replayed(events, after)
