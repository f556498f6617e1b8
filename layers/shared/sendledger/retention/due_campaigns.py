"""Which campaigns have ended long enough ago that something of them is to be removed.

A campaign with an email of unknown outcome waits until a person has settled it, and one whose ledger is being exported
until that is done. Reads `campaigns`, `removals`, `scheduled_emails` and `exports`.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection

import sqlalchemy as sa

from sendledger.core.ledger_rules import is_open
from sendledger.core.vocabulary import ENDED_CAMPAIGN_STATUSES, RemovalKind, quoted

ENDED_AT = "coalesce(greatest(c.completed_at, c.cancelled_at, c.failed_at), c.updated_at AT TIME ZONE 'UTC')"
"""When a campaign `c` has ended. Campaigns of the old application have none of the times of ours."""

HAS_ENDED = f"""
    c.status IN ({quoted(ENDED_CAMPAIGN_STATUSES)}) AND c.background_work = '[]'
    AND (c.status <> 'failed' OR c.actual_started_at IS NOT NULL)
"""
"""Whether a campaign `c` sends nothing more. One that could not start can be started again."""

# OFFSET 0 makes PostgreSQL ask for each campaign by itself. As a join it would read the ledger of all campaigns.
_IS_UNSETTLED = """EXISTS (
    SELECT FROM scheduled_emails e
    WHERE e.campaign_id = c.id AND e.failed_at IS NOT NULL AND e.error_code = 'outcome_unknown' OFFSET 0)"""
_IS_BUSY = f"""(
    EXISTS (SELECT FROM scheduled_emails e WHERE e.campaign_id = c.id AND {is_open("e")}
            ORDER BY e.scheduled_for OFFSET 0)
    OR EXISTS (SELECT FROM exports x WHERE x.campaign_id = c.id AND x.status IN ('pending', 'running')))"""
_OLD_ENOUGH = f"""
    FROM campaigns c LEFT JOIN removals r ON r.campaign_id = c.id AND r.kind = :kind
    WHERE {HAS_ENDED} AND {ENDED_AT} < now() - make_interval(days => :days)
      -- It may have run again since, for an answer to a reply.
      AND (r.completed_at IS NULL OR r.completed_at < {ENDED_AT})
"""
_NEXT = sa.text(f"""
    SELECT c.id {_OLD_ENOUGH} AND c.id <> ALL(:passed) AND NOT {_IS_UNSETTLED} AND NOT {_IS_BUSY}
    ORDER BY {ENDED_AT}, c.id LIMIT 1
""").bindparams(sa.bindparam("passed", type_=sa.ARRAY(sa.UUID)))
_IS_DUE = sa.text(f"""
    SELECT EXISTS (SELECT {_OLD_ENOUGH} AND c.id = :campaign_id AND NOT {_IS_UNSETTLED} AND NOT {_IS_BUSY})
""").bindparams(sa.bindparam("campaign_id", type_=sa.UUID))
_WAITING = sa.text(f"SELECT count(*) {_OLD_ENOUGH} AND {_IS_UNSETTLED}")
_LOCK = sa.text("SELECT id FROM campaigns WHERE id = :campaign_id FOR UPDATE SKIP LOCKED").bindparams(
    sa.bindparam("campaign_id", type_=sa.UUID)
)


def next_campaign(
    connection: sa.Connection, kind: RemovalKind, days: int, passed: Collection[uuid.UUID]
) -> uuid.UUID | None:
    """The campaign that ended first among those with something of this kind to remove, except those in `passed`."""
    found: uuid.UUID | None = connection.scalar(_NEXT, {"kind": kind, "days": days, "passed": list(passed)})
    return found


def hold(connection: sa.Connection, campaign_id: uuid.UUID, kind: RemovalKind, days: int) -> bool:
    """Lock a campaign that is still due; False if it is not, or if somebody else has locked it.

    Whoever lets it run again, records an event or erases a lead waits until this transaction ends. Lock and check are
    two statements, because a statement that waits for a lock keeps its snapshot from before the wait.
    """
    if connection.scalar(_LOCK, {"campaign_id": campaign_id}) is None:
        return False
    return bool(connection.scalar(_IS_DUE, {"campaign_id": campaign_id, "kind": kind, "days": days}))


def count_waiting(connection: sa.Connection, kind: RemovalKind, days: int) -> int:
    """How many campaigns are old enough and wait for a person to settle an email of unknown outcome."""
    return int(connection.scalar(_WAITING, {"kind": kind, "days": days}) or 0)
