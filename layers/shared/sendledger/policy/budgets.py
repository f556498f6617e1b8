"""Budgets: how many emails may still go out from each sender today.

What counts is what the ledger says: the emails of the day that are on their way, sent or of unknown outcome. So an
email that a dead or paused sender has returned counts no more, and nothing has to be given back. A claim locks the
rows of its senders before it counts, so that overlapping claims never exceed a cap together. Days are those of UTC.
Reads `sender_addresses`, `campaigns` and `scheduled_emails`.
"""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass

import sqlalchemy as sa

LAST_CALLS = dt.timedelta(seconds=2)
"""How long before the end of an opening or a day nothing more is claimed: what has passed the fence takes a second to
go out."""

WITHOUT_CAP = 2**31 - 1
"""What is left to a sender without a cap."""

SENDING_DAY_SQL = "(now() AT TIME ZONE 'UTC')::date"

_ACTIVE = """
    SELECT a.id FROM sender_addresses a
    WHERE a.status = 'active'
      AND EXISTS (SELECT FROM campaigns c WHERE c.status = 'running' AND a.id = ANY(c.sender_ids))
"""
_ANY_ACTIVE = sa.text(f"SELECT EXISTS ({_ACTIVE})")
# Not FOR UPDATE: a start that writes lanes of this sender, for seconds, holds its row FOR KEY SHARE.
_LOCK = sa.text(f"{_ACTIVE} AND a.daily_cap IS NOT NULL ORDER BY a.id FOR NO KEY UPDATE OF a")
USED = f"""
    (SELECT count(*) FROM scheduled_emails e
     WHERE e.sender_id = a.id AND e.sending_day = {SENDING_DAY_SQL} AND e.sending_day IS NOT NULL
       AND (e.status IN ('sending', 'sent') OR e.error_code = 'outcome_unknown'))
"""
"""How many emails of today count against the cap of a sender `a`."""

_LEFT = sa.text(f"""
    SELECT a.id, CASE WHEN a.daily_cap IS NOT NULL THEN a.daily_cap - {USED} END AS remaining,
           (date_trunc('day', now(), 'UTC') + interval '1 day') AS day_ends, now() AS now
    FROM sender_addresses a
    WHERE a.id IN ({_ACTIVE}) AND (NOT :lock OR a.daily_cap IS NULL OR a.id = ANY(:locked))
""").bindparams(sa.bindparam("lock", type_=sa.Boolean), sa.bindparam("locked", type_=sa.ARRAY(sa.UUID)))


@dataclass(frozen=True)
class Budget:
    """How many emails may go out from a sender until then."""

    sender_id: uuid.UUID
    remaining: int
    until: dt.datetime


def budgets(connection: sa.Connection, *, lock: bool = False) -> list[Budget]:
    """The budgets of the active senders of running campaigns that have some left.

    With `lock` nobody else counts them until the transaction ends. Taken before the campaigns and rows of a claim,
    which then waits for no other lock: so no two transactions wait for each other.
    """
    if not connection.scalar(_ANY_ACTIVE):
        return []
    # A sender that has become active, or got its cap, since they were locked has no budget until the next claim.
    locked = list(connection.scalars(_LOCK)) if lock else []
    found = []
    for id_, remaining, day_ends, now in connection.execute(_LEFT, {"lock": lock, "locked": locked}):
        budget = Budget(id_, WITHOUT_CAP if remaining is None else remaining, day_ends - LAST_CALLS)
        if budget.remaining > 0 and now < budget.until:
            found.append(budget)
    return found
