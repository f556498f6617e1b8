"""The sweep: rows of dead senders are returned or settled, and the email that crashes its sender is isolated.

A sender is dead when its lock is free (see senders.py) or when it has been preparing one thing for too long.
Its rows that were not fenced were not sent, and are returned at once. What it was preparing counts as the cause:

    one row        the row fails as `sender_died`
    one campaign   the death counts against the campaign
    several        the cause is not known yet

From then on these campaigns are prepared alone: after all others, one campaign at a time, and each row is noted before
it is prepared. So the next death has one known row as its cause and delays no other campaign. At the third death a
campaign is paused. `claims` says which rows are `sending`. Reads `senders`; writes `campaigns`, `scheduled_emails`,
`claims` and `senders`.
"""

from __future__ import annotations

import datetime as dt
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field

import sqlalchemy as sa

from sendledger.core.ledger_rules import is_sending, lock_campaigns, returned_reason, returned_status
from sendledger.core.vocabulary import CampaignStatus, ErrorCode, ScheduledEmailStatus
from sendledger.ledger.senders import LOCK_KEY

GRACE = dt.timedelta(seconds=300)
"""How long after the fence a missing result counts as lost. An SES call ends within 15 s and a sender within its
Lambda's timeout, so no result can still come."""

STUCK_AFTER = dt.timedelta(seconds=20)
"""A sender that prepares something for this long is stuck. It normally takes a second at most."""

MAX_SENDER_DEATHS = 3
"""After this many deaths with emails of one campaign, it is paused."""

CLAIMS_AT_ONCE = 200
"""Claims that one statement looks at. Each has hundreds of rows, and their statuses are read one by one."""


@dataclass
class Swept:
    """Rows by what became of them, and the campaigns to pause, with the reasons."""

    returned: int = 0
    unknown: int = 0
    sender_died: int = 0
    to_pause: dict[uuid.UUID, str] = field(default_factory=dict)


# A dead sender's row is kept for a while: some of its emails may be in a campaign that is locked now.
_DEAD = sa.text(f"""
    WITH dead AS MATERIALIZED (
        SELECT s.token FROM senders s
        WHERE pg_try_advisory_xact_lock({LOCK_KEY.replace(":token", "s.token")})
           OR s.preparing_since < clock_timestamp() - :stuck_after
        ORDER BY s.token FOR UPDATE OF s SKIP LOCKED
    ), gone AS (
        DELETE FROM senders s USING dead WHERE s.token = dead.token AND s.started_at < now() - interval '10 minutes'
    )
    SELECT s.token, s.started_at > pg_postmaster_start_time() AS is_to_blame, s.preparing, s.preparing_row
    FROM dead JOIN senders s ON s.token = dead.token
""").bindparams(sa.bindparam("stuck_after", type_=sa.Interval))
_BLAMED = sa.text("""
    UPDATE senders SET preparing = '{}', preparing_row = NULL, preparing_since = NULL
    WHERE token = ANY(:tokens)
""").bindparams(sa.bindparam("tokens", type_=sa.ARRAY(sa.UUID)))
_BLAME = sa.text("""
    UPDATE campaigns c
    SET prepared_alone = true, sender_deaths = c.sender_deaths + b.deaths, updated_at = now()
    FROM unnest(:ids, CAST(:deaths AS integer[])) AS b (id, deaths) WHERE c.id = b.id
    RETURNING c.id, c.sender_deaths, c.status
""").bindparams(sa.bindparam("ids", type_=sa.ARRAY(sa.UUID)))

# Part of the claims, as they can be many: a release from before them leaves a day's claims behind.
_FORGET = sa.text("""
    WITH looked_at AS MATERIALIZED (
        SELECT id, claim_token, row_ids FROM claims WHERE id > :after ORDER BY id LIMIT :most
    ), settled AS MATERIALIZED (
        SELECT k.id FROM looked_at l JOIN claims k ON k.id = l.id
        WHERE NOT EXISTS (
            SELECT FROM scheduled_emails e
            WHERE e.id = ANY(l.row_ids) AND e.status = 'sending' AND e.claim_token = l.claim_token OFFSET 0)
        FOR UPDATE OF k SKIP LOCKED
    ), forgotten AS (
        DELETE FROM claims k USING settled WHERE k.id = settled.id
    )
    SELECT count(*) AS number, max(id) AS last_id FROM looked_at
""").bindparams(sa.bindparam("after", type_=sa.BigInteger))
# The lock is the one for the counters. A campaign whose results are being recorded is left to the next sweep, so that
# neither waits for the other.
_IN_HAND = f"""
in_hand AS MATERIALIZED (SELECT e.* FROM scheduled_emails e WHERE {is_sending("e")}), campaign AS MATERIALIZED (
    SELECT c.id, c.status FROM campaigns c WHERE c.id IN (SELECT campaign_id FROM in_hand)
    ORDER BY c.id FOR NO KEY UPDATE OF c SKIP LOCKED
)
"""
_RETURN = sa.text(f"""
WITH {_IN_HAND}, lost AS MATERIALIZED (
    SELECT e.id, e.claim_token, e.id = ANY(:poison) AS is_poison,
           {returned_status("campaign")} AS status, {returned_reason("campaign")} AS reason
    FROM campaign JOIN in_hand e ON e.campaign_id = campaign.id
    WHERE e.send_started_at IS NULL AND (e.lease_until < now() OR e.claim_token = ANY(:dead))
)
UPDATE scheduled_emails e
SET status = CASE WHEN lost.is_poison THEN 'failed' ELSE lost.status END,
    reason = CASE WHEN NOT lost.is_poison THEN lost.reason END,
    error_code = CASE WHEN lost.is_poison THEN '{ErrorCode.SENDER_DIED}' END,
    failure_reason = CASE WHEN lost.is_poison THEN 'A sender died while it prepared this email.' END,
    failed_at = CASE WHEN lost.is_poison THEN now() END,
    claim_token = NULL, lease_until = NULL, updated_at = now()
FROM lost
-- Checked again, as its sender may have fenced it since.
WHERE e.id = lost.id AND e.claim_token = lost.claim_token AND e.send_started_at IS NULL AND e.lease_until IS NOT NULL
RETURNING e.campaign_id, e.lead_id, e.workflow_step_number, e.status
""").bindparams(sa.bindparam("dead", type_=sa.ARRAY(sa.UUID)), sa.bindparam("poison", type_=sa.ARRAY(sa.BigInteger)))
# The token stays: a late result or an SES event that carries it still settles the row.
_GIVE_UP = sa.text(f"""
WITH {_IN_HAND}, lost AS MATERIALIZED (
    SELECT e.id, e.claim_token FROM campaign JOIN in_hand e ON e.campaign_id = campaign.id
    WHERE e.send_started_at < now() - :grace
)
UPDATE scheduled_emails e
SET status = 'failed', error_code = '{ErrorCode.OUTCOME_UNKNOWN}', failed_at = now(), lease_until = NULL,
    updated_at = now(),
    failure_reason = 'The sender ended without a result; SES may or may not have accepted this email.'
FROM lost
WHERE e.id = lost.id AND e.claim_token = lost.claim_token AND e.lease_until IS NOT NULL
RETURNING e.campaign_id, e.status
""").bindparams(sa.bindparam("grace", type_=sa.Interval))
_COUNT_FAILED = sa.text("""
    UPDATE campaigns c SET emails_failed_count = c.emails_failed_count + f.count, updated_at = now()
    FROM unnest(:ids, CAST(:counts AS integer[])) AS f (id, count) WHERE c.id = f.id
""").bindparams(sa.bindparam("ids", type_=sa.ARRAY(sa.UUID)))


def forget_settled_claims(engine: sa.Engine, until: float) -> bool:
    """Remove the claims with nothing open, oldest first, in transactions of their own.

    Returns whether all were looked at before `time.monotonic()` passed `until`. Only then is a sweep quick, as its
    statements read the rows of all claims that are left.
    """
    after = 0
    while True:
        with engine.begin() as connection:
            looked_at = connection.execute(_FORGET, {"after": after, "most": CLAIMS_AT_ONCE}).one()
        if looked_at.number < CLAIMS_AT_ONCE:
            return True
        if time.monotonic() >= until:
            return False
        after = looked_at.last_id


def sweep(connection: sa.Connection) -> Swept:
    """Return or settle the rows of dead senders. The caller commits, then pauses the campaigns named.

    A row without `send_started_at` was provably not sent and is returned. A row with it, and no result after `GRACE`,
    fails as ``outcome_unknown`` and is never sent again automatically.
    """
    swept = Swept()
    dead = connection.execute(_DEAD, {"stuck_after": STUCK_AFTER}).all()
    guilty = [sender for sender in dead if sender.preparing]
    blamed = [sender for sender in guilty if sender.is_to_blame]
    if guilty:
        connection.execute(_BLAMED, {"tokens": [sender.token for sender in guilty]})
    deaths = Counter({campaign_id: 0 for sender in blamed for campaign_id in sender.preparing})
    deaths.update(sender.preparing[0] for sender in blamed if len(sender.preparing) == 1)
    swept.to_pause = blame(connection, deaths)
    poison = [sender.preparing_row for sender in blamed if sender.preparing_row is not None]
    lost = connection.execute(_RETURN, {"dead": [sender.token for sender in dead], "poison": poison}).all()
    unknown = connection.execute(_GIVE_UP, {"grace": GRACE}).all()
    failed = Counter(row.campaign_id for row in (*lost, *unknown) if row.status == ScheduledEmailStatus.FAILED)
    if failed:
        connection.execute(_COUNT_FAILED, {"ids": list(failed), "counts": list(failed.values())})
    swept.sender_died = sum(row.status == ScheduledEmailStatus.FAILED for row in lost)
    swept.returned = len(lost) - swept.sender_died
    swept.unknown = len(unknown)
    return swept


def blame(connection: sa.Connection, deaths: Counter[uuid.UUID]) -> dict[uuid.UUID, str]:
    """Count deaths against campaigns, which are prepared alone from now on; returns those to pause, with the reasons.

    A count of 0 means that the campaign is one of several possible causes.
    """
    if not deaths:
        return {}
    connection.execute(lock_campaigns("NO KEY UPDATE"), {"ids": list(deaths)})
    counted = connection.execute(_BLAME, {"ids": list(deaths), "deaths": list(deaths.values())})
    return {
        row.id: (
            f"Paused: a sender died or got stuck {row.sender_deaths} times while it prepared emails of this campaign. "
            "Look at the failed emails (sender_died) and at its template."
        )
        for row in counted
        if row.status == CampaignStatus.RUNNING and row.sender_deaths >= MAX_SENDER_DEATHS
    }


def trust_again(connection: sa.Connection, campaign_id: uuid.UUID) -> None:
    """End the isolation of a campaign whose emails were prepared alone without a death."""
    connection.execute(
        sa.text("UPDATE campaigns SET prepared_alone = false WHERE id = :id AND sender_deaths = 0").bindparams(
            sa.bindparam("id", type_=sa.UUID)
        ),
        {"id": campaign_id},
    )
