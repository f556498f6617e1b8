"""Claiming: which scheduled emails this sender may send now, and the last gate before each SES call.

    claim    due rows become `sending` under this sender's token and lease, a fair share from each campaign
    fence    just before the SES call: what is still allowed to go gets `send_started_at`; the rest goes back or ends
    release  what was claimed and not fenced goes back
    sweep    what a dead sender left behind

Each is one statement in a short transaction of its own. All times are the database's. Campaigns are locked before
rows, everywhere, and FOR KEY SHARE, so that counter updates block nobody while pause and cancel (FOR UPDATE) wait for
a fence under way and are obeyed by the next. Reads `campaigns`, `leads`, `suppressions`; writes `scheduled_emails`.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

LEASE = dt.timedelta(seconds=120)
"""How long a claim holds before anyone may take the row back; far longer than claim to fence takes."""

GRACE = dt.timedelta(seconds=300)
"""How long after the fence a missing result counts as lost. An SES call ends within 15 s and a sender within its
Lambda's timeout, so nobody is still about to write the result."""

SUSPECT_FROM = 2
"""A row whose senders died this often between claim and fence may be what kills them. From then on it is a suspect,
claimed after all others, so that it takes none of them with it."""

MAX_LOST_CLAIMS = 5
"""A row whose senders died this often fails. From SUSPECT_FROM on only those deaths count in which it was the only one
that its sender had left."""

_UUIDS = sa.ARRAY(sa.UUID)
_IDS = sa.ARRAY(sa.BigInteger)


@dataclass(frozen=True)
class ClaimedEmail:
    """One claimed row with what is needed to render it; `lead` is None where the lead was deleted."""

    id: int
    campaign_id: uuid.UUID
    step_number: int
    lead: dict[str, Any] | None


@dataclass(frozen=True)
class Fenced:
    """What the fence let through, with the address it was checked for, and the number of other rows by reason."""

    sendable: dict[int, str]
    turned_away: dict[str, int]


# MATERIALIZED, because Postgres may otherwise run the limited part once for each row it joins and claim more than
# :batch. The rows are locked there, so the update need not look at their status again; if it did, a planner whose
# statistics are from before the start would walk the whole index of due rows for each of them. A campaign that others
# are changing (SKIP LOCKED) is simply not claimed from this time. The limit shares the batch evenly over the campaigns
# with due rows, whatever the length of their backlogs. Suspects are of one campaign, so that the sweep sees all that a
# dead sender had in hand or, where somebody is at work on the campaign, nothing.
_CLAIM = sa.text("""
WITH run AS MATERIALIZED (
    SELECT c.id, coalesce(c.late_hold_until, '-infinity') AS hold FROM campaigns c
    WHERE c.status = 'running' AND c.background_work = '[]'
      AND EXISTS (SELECT FROM scheduled_emails p
                  WHERE p.campaign_id = c.id AND p.status = 'pending' AND p.scheduled_for <= now()
                    AND p.scheduled_for > coalesce(c.late_hold_until, '-infinity')
                    AND (p.lost_claims >= :suspect_from) = :suspects)
    ORDER BY CASE WHEN :suspects THEN c.id END, random() LIMIT CASE WHEN :suspects THEN 1 ELSE 1000 END
    FOR KEY SHARE OF c SKIP LOCKED
), picked AS MATERIALIZED (
    SELECT due.id FROM run CROSS JOIN LATERAL (
        SELECT e.id FROM scheduled_emails e
        WHERE e.campaign_id = run.id AND e.status = 'pending'
          AND e.scheduled_for <= now() AND e.scheduled_for > run.hold
          AND (e.lost_claims >= :suspect_from) = :suspects
        ORDER BY e.scheduled_for, e.id
        LIMIT (SELECT greatest(1, ceil(CAST(:batch AS numeric) / greatest(count(*), 1)))::bigint FROM run)
        FOR UPDATE OF e SKIP LOCKED) due
    LIMIT :batch
), claimed AS (
    UPDATE scheduled_emails e
    SET status = 'sending', claim_token = :token, lease_until = now() + :lease, updated_at = now()
    FROM picked WHERE e.id = picked.id
    RETURNING e.id, e.campaign_id, e.workflow_step_number, e.lead_id
)
SELECT claimed.id, claimed.campaign_id, claimed.workflow_step_number, l.id AS lead_id, l.email, l.company_name,
       l.contact_name, l.job_title, l.industry, l.city, l.country, l.website, l.phone, l.custom_fields
FROM claimed LEFT JOIN leads l ON l.id = claimed.lead_id
ORDER BY claimed.id
""").bindparams(
    sa.bindparam("token", type_=sa.UUID),
    sa.bindparam("lease", type_=sa.Interval),
    sa.bindparam("batch", type_=sa.Integer),
    sa.bindparam("suspects", type_=sa.Boolean),
    sa.bindparam("suspect_from", SUSPECT_FROM),
)

_COUNT_DUE = sa.text("""
    SELECT count(*) FROM (
        SELECT FROM campaigns c CROSS JOIN LATERAL (
            SELECT FROM scheduled_emails e
            WHERE e.campaign_id = c.id AND e.status = 'pending' AND e.scheduled_for <= now()
              AND e.scheduled_for > coalesce(c.late_hold_until, '-infinity')
            LIMIT :limit) due
        WHERE c.status = 'running' AND c.background_work = '[]' LIMIT :limit) bounded
""").bindparams(sa.bindparam("limit", type_=sa.Integer))

# One row by name, for an operator who wants it out now; otherwise the same claim.
_CLAIM_ONE = sa.text("""
WITH run AS MATERIALIZED (
    SELECT c.id FROM campaigns c JOIN scheduled_emails e ON e.campaign_id = c.id
    WHERE e.id = :id AND c.status = 'running' AND c.background_work = '[]' FOR KEY SHARE OF c
), claimed AS (
    UPDATE scheduled_emails e
    SET status = 'sending', claim_token = :token, lease_until = now() + :lease, updated_at = now()
    FROM run WHERE e.campaign_id = run.id AND e.id = :id AND e.status = 'pending'
    RETURNING e.id, e.campaign_id, e.workflow_step_number, e.lead_id
)
SELECT claimed.id, claimed.campaign_id, claimed.workflow_step_number, l.id AS lead_id, l.email, l.company_name,
       l.contact_name, l.job_title, l.industry, l.city, l.country, l.website, l.phone, l.custom_fields
FROM claimed LEFT JOIN leads l ON l.id = claimed.lead_id
""").bindparams(
    sa.bindparam("token", type_=sa.UUID),
    sa.bindparam("lease", type_=sa.Interval),
    sa.bindparam("id", type_=sa.BigInteger),
)

# In a statement of its own: one that waits for a lock goes on with its view from before, in which somebody who has
# opted out meanwhile has not.
_LOCK_CAMPAIGNS = sa.text("""
    SELECT count(*) FROM (SELECT FROM campaigns WHERE id = ANY(:campaign_ids) ORDER BY id FOR KEY SHARE) locked
""").bindparams(sa.bindparam("campaign_ids", type_=_UUIDS))

# Only a row that is `sending` has a lease, so the lease stands for the status here as well.
# The verdicts, first match wins. An earlier step that is still open sends the row back to where it would be due had
# that step gone out on time; an earlier step that failed for good ends it. A step whose outcome is unknown may well
# have arrived, so it does not end the sequence.
_FENCE = sa.text("""
WITH verdict AS MATERIALIZED (
    SELECT e.id, l.email, c.status AS campaign_status,
           coalesce(earlier.open_until, earlier.gap_until) AS wait_until, CASE
        WHEN c.status <> 'running' THEN 'campaign'
        WHEN l.id IS NULL THEN 'lead_deleted'
        WHEN coalesce(btrim(l.email), '') = '' THEN 'no_address'
        WHEN l.status IN ('responded', 'not_interested', 'converted', 'invalid') THEN 'lead_' || l.status::text
        WHEN EXISTS (
            SELECT FROM suppressions s
            WHERE s.value IN (lower(btrim(l.email)), split_part(lower(btrim(l.email)), '@', 2))
              AND s.removed_at IS NULL AND (s.campaign_id IS NULL OR s.campaign_id = e.campaign_id)) THEN 'suppressed'
        WHEN earlier.open_until IS NOT NULL THEN 'wait'
        -- Claimed together with the earlier step, which went out late. (What is not due was asked for by name.)
        WHEN earlier.gap_until > now() AND e.scheduled_for <= now() THEN 'wait'
        WHEN earlier.failed THEN 'previous_step_failed'
        ELSE 'send' END AS verdict
    FROM scheduled_emails e
    JOIN campaigns c ON c.id = e.campaign_id
    LEFT JOIN leads l ON l.id = e.lead_id
    LEFT JOIN LATERAL (
        -- What a pause has cancelled comes back.
        SELECT max(p.scheduled_for) FILTER (WHERE p.status IN ('pending', 'sending') OR p.reason = 'paused')
                   + own.delay AS open_until,
               max(p.sent_at) + own.delay AS gap_until,
               bool_or(p.status = 'failed' AND p.error_code <> 'outcome_unknown') AS failed
        FROM scheduled_emails p
        CROSS JOIN (SELECT delay FROM campaign_steps s
                    WHERE s.campaign_id = e.campaign_id AND s.step_number = e.workflow_step_number) own
        WHERE p.lead_id = e.lead_id AND p.campaign_id = e.campaign_id
          AND p.workflow_step_number < e.workflow_step_number
        GROUP BY own.delay
    ) earlier ON e.workflow_step_number > 1
    WHERE e.id = ANY(:ids) AND e.claim_token = :token AND e.send_started_at IS NULL AND e.lease_until > now()
)
UPDATE scheduled_emails e SET
    status = CASE WHEN v.verdict = 'send' THEN 'sending'
                  WHEN v.verdict = 'wait' THEN 'pending'
                  WHEN v.verdict = 'campaign' THEN 'cancelled'
                  ELSE 'skipped' END,
    reason = CASE WHEN v.verdict IN ('send', 'wait') THEN NULL
                  WHEN v.verdict <> 'campaign' THEN v.verdict
                  WHEN v.campaign_status = 'paused' THEN 'paused'
                  ELSE 'campaign_cancelled' END,
    send_started_at = CASE WHEN v.verdict = 'send' THEN clock_timestamp() END,
    claim_token = CASE WHEN v.verdict = 'send' THEN e.claim_token END,
    lease_until = CASE WHEN v.verdict = 'send' THEN e.lease_until END,
    scheduled_for = CASE WHEN v.verdict = 'wait' THEN greatest(v.wait_until, now() + interval '1 minute')
                         ELSE e.scheduled_for END,
    updated_at = now()
FROM verdict v
WHERE e.id = v.id AND e.claim_token = :token AND e.send_started_at IS NULL AND e.lease_until > now()
RETURNING e.id, e.status, e.reason, v.email
""").bindparams(sa.bindparam("ids", type_=_IDS), sa.bindparam("token", type_=sa.UUID))

_RELEASE = sa.text("""
WITH c AS MATERIALIZED (
    SELECT id, status FROM campaigns WHERE id = ANY(:campaign_ids) ORDER BY id FOR KEY SHARE
)
UPDATE scheduled_emails e
SET status = CASE WHEN c.status = 'running' THEN 'pending' ELSE 'cancelled' END,
    reason = CASE c.status WHEN 'running' THEN NULL WHEN 'paused' THEN 'paused' ELSE 'campaign_cancelled' END,
    claim_token = NULL, lease_until = NULL, updated_at = now()
FROM c
WHERE e.campaign_id = c.id AND e.id = ANY(:ids) AND e.claim_token = :token AND e.send_started_at IS NULL
  AND e.lease_until IS NOT NULL
""").bindparams(
    sa.bindparam("campaign_ids", type_=_UUIDS), sa.bindparam("ids", type_=_IDS), sa.bindparam("token", type_=sa.UUID)
)

# Locked as for the counter that they may change: a campaign whose results are being recorded right now is left to the
# next sweep, so that neither waits for the other.
_OPEN_CAMPAIGNS = """
    SELECT c.id, c.status FROM campaigns c
    WHERE EXISTS (SELECT FROM scheduled_emails s WHERE s.campaign_id = c.id AND s.status = 'sending')
    ORDER BY c.id FOR NO KEY UPDATE OF c SKIP LOCKED
"""
_SWEEP_UNFENCED = sa.text(f"""
WITH c AS MATERIALIZED ({_OPEN_CAMPAIGNS}), lost AS MATERIALIZED (
    SELECT e.id, e.claim_token, c.status AS campaign_status, e.lost_claims
           + CASE WHEN e.lost_claims < :suspect_from OR count(*) OVER (PARTITION BY e.claim_token) = 1
                  THEN 1 ELSE 0 END AS lost_claims
    FROM c JOIN scheduled_emails e ON e.campaign_id = c.id
    WHERE e.status = 'sending' AND e.send_started_at IS NULL AND e.lease_until < now()
)
UPDATE scheduled_emails e
SET status = CASE WHEN lost.lost_claims >= :max_lost_claims THEN 'failed'
                  WHEN lost.campaign_status = 'running' THEN 'pending' ELSE 'cancelled' END,
    error_code = CASE WHEN lost.lost_claims >= :max_lost_claims THEN 'sender_died' END,
    failure_reason = CASE WHEN lost.lost_claims >= :max_lost_claims
                          THEN 'A sender died ' || :max_lost_claims || ' times while it prepared this email.' END,
    failed_at = CASE WHEN lost.lost_claims >= :max_lost_claims THEN now() END,
    reason = CASE WHEN lost.lost_claims >= :max_lost_claims OR lost.campaign_status = 'running' THEN NULL
                  WHEN lost.campaign_status = 'paused' THEN 'paused' ELSE 'campaign_cancelled' END,
    lost_claims = lost.lost_claims, claim_token = NULL, lease_until = NULL, updated_at = now()
FROM lost
-- Looked at again, as its sender may have fenced it in the last moment of the lease.
WHERE e.id = lost.id AND e.claim_token = lost.claim_token AND e.send_started_at IS NULL AND e.lease_until < now()
RETURNING e.campaign_id, e.status
""").bindparams(sa.bindparam("max_lost_claims", type_=sa.Integer), sa.bindparam("suspect_from", SUSPECT_FROM))
# The token stays: a late result or an SES event that carries it still settles the row.
_SWEEP_FENCED = sa.text(f"""
WITH c AS MATERIALIZED ({_OPEN_CAMPAIGNS})
UPDATE scheduled_emails e
SET status = 'failed', error_code = 'outcome_unknown', failed_at = now(), lease_until = NULL, updated_at = now(),
    failure_reason = 'The sender ended without a result; SES may or may not have accepted this email.'
FROM c
WHERE e.campaign_id = c.id AND e.status = 'sending' AND e.send_started_at < now() - :grace
RETURNING e.campaign_id, e.status
""").bindparams(sa.bindparam("grace", type_=sa.Interval))


def claim(connection: sa.Connection, batch: int, token: uuid.UUID) -> list[ClaimedEmail]:
    """Claim up to `batch` due emails of running campaigns; each campaign with due emails gets an equal share.

    After a crash the rows return to pending when their lease is over (`sweep`). Suspects are left to `claim_suspects`.
    """
    parameters = {"batch": batch, "token": token, "lease": LEASE, "suspects": False}
    return [_claimed(row) for row in connection.execute(_CLAIM, parameters).mappings()]


def claim_suspects(connection: sa.Connection, batch: int, token: uuid.UUID) -> list[ClaimedEmail]:
    """Claim up to `batch` due emails whose senders have died repeatedly; nothing else shall be in hand.

    Whoever begins with one, and takes more only when those before have done no harm, has after a few deaths the one
    that kills alone in hand, and no other fails of it.
    """
    parameters = {"batch": batch, "token": token, "lease": LEASE, "suspects": True}
    return [_claimed(row) for row in connection.execute(_CLAIM, parameters).mappings()]


def count_due(connection: sa.Connection, limit: int) -> int:
    """How many emails could be claimed if nobody else held any of them; `limit` is as far as it counts."""
    return int(connection.execute(_COUNT_DUE, {"limit": limit}).scalar_one())


def claim_one(connection: sa.Connection, scheduled_email_id: int, token: uuid.UUID) -> ClaimedEmail | None:
    """Claim this email, due or not; None where it is not pending or its campaign not running."""
    parameters = {"id": scheduled_email_id, "token": token, "lease": LEASE}
    row = connection.execute(_CLAIM_ONE, parameters).mappings().first()
    return _claimed(row) if row is not None else None


def _claimed(row: sa.RowMapping) -> ClaimedEmail:
    return ClaimedEmail(
        id=row["id"],
        campaign_id=row["campaign_id"],
        step_number=row["workflow_step_number"],
        lead=dict(row) if row["lead_id"] is not None else None,
    )


def fence(connection: sa.Connection, emails: Sequence[ClaimedEmail], token: uuid.UUID) -> Fenced:
    """Open the gate for those emails that may still go; SES may be called for `sendable` ids only, and once each.

    A row whose lease has run out is left alone: it belongs to somebody else by now.
    """
    connection.execute(_LOCK_CAMPAIGNS, {"campaign_ids": sorted({email.campaign_id for email in emails})})
    parameters = {"ids": [email.id for email in emails], "token": token}
    sendable: dict[int, str] = {}
    turned_away: dict[str, int] = {}
    for id_, status, reason, address in connection.execute(_FENCE, parameters):
        if status == "sending":
            sendable[id_] = address
        else:
            key = reason or "waits_for_earlier_step"
            turned_away[key] = turned_away.get(key, 0) + 1
    return Fenced(sendable, turned_away)


def release(connection: sa.Connection, emails: Sequence[ClaimedEmail], token: uuid.UUID) -> int:
    """Give back what was claimed and not fenced; where the campaign was paused or cancelled meanwhile, it is obeyed."""
    parameters = {
        "ids": [email.id for email in emails],
        "campaign_ids": sorted({email.campaign_id for email in emails}),
        "token": token,
    }
    return connection.execute(_RELEASE, parameters).rowcount


def sweep(connection: sa.Connection) -> dict[str, int]:
    """Settle what dead senders left behind; returns the number of rows by what became of them.

    Without `send_started_at` a row is provably unsent and becomes pending again. With it, and no result after `GRACE`,
    nobody knows: it fails as ``outcome_unknown`` and is never sent again by itself.
    """
    lost = connection.execute(_SWEEP_UNFENCED, {"max_lost_claims": MAX_LOST_CLAIMS}).all()
    unknown = connection.execute(_SWEEP_FENCED, {"grace": GRACE}).all()
    failed: dict[uuid.UUID, int] = {}
    for campaign_id, status in (*lost, *unknown):
        if status == "failed":
            failed[campaign_id] = failed.get(campaign_id, 0) + 1
    if failed:
        connection.execute(_COUNT_FAILED, {"ids": list(failed), "counts": list(failed.values())})
    return {"returned": sum(status != "failed" for _, status in lost), "unknown": len(unknown)}


_COUNT_FAILED = sa.text("""
    UPDATE campaigns c SET emails_failed_count = c.emails_failed_count + f.count, updated_at = now()
    FROM unnest(:ids, CAST(:counts AS integer[])) AS f (id, count) WHERE c.id = f.id
""").bindparams(sa.bindparam("ids", type_=_UUIDS))

_RESERVE = sa.text("""
    UPDATE sender_state
    SET rate_reserved_until = greatest(rate_reserved_until, clock_timestamp()) + make_interval(secs => :seconds)
    WHERE id = 1
    RETURNING extract(epoch FROM rate_reserved_until - clock_timestamp()) - :seconds
""").bindparams(sa.bindparam("seconds", type_=sa.Double))


def reserve_rate(connection: sa.Connection, count: int, rate: float) -> float:
    """Reserve time for `count` emails at `rate` per second; returns the seconds until that time begins.

    All senders of the database draw on the same timetable, so together they never exceed the rate, however many there
    are, and a single one can use all of it. A sender that dies loses no more than what it had reserved.
    """
    return max(0.0, float(connection.execute(_RESERVE, {"seconds": count / rate}).scalar_one()))
