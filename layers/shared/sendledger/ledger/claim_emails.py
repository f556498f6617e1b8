"""Claiming: which scheduled emails this sender may send now, and the last check before each SES call.

    claim    due rows become `sending` under this sender's token and lease, a fair share from each campaign
    fence    just before the SES call: what is still allowed to go gets `send_started_at`; the rest goes back or ends
    release  what was claimed and not fenced goes back

Each is one statement in its own short transaction. All times are the database's. Reads `campaigns`, their lanes,
`leads` and `suppressions`; writes `scheduled_emails`.
"""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from sendledger.core.kept_statements import KEPT
from sendledger.core.ledger_rules import (
    address_of,
    condition_is_met,
    due,
    has_lanes,
    is_answer,
    is_step_of,
    is_undecided,
    is_variant_of,
    may_send,
    no_mail_for_lead,
    returned_reason,
    returned_status,
    still_planned,
    went_at,
)
from sendledger.core.vocabulary import ScheduledEmailStatus
from sendledger.ledger.claim_from_lanes import COUNT_DUE, claim_from_lanes
from sendledger.policy import business_days
from sendledger.policy.budgets import budgets, new_leads_key, sending_day_now
from sendledger.policy.lane_queue import LaneQueue, Limits
from sendledger.policy.lanes import lane_parameters, open_zones

LEASE = dt.timedelta(seconds=120)
"""How long a claim is valid. It is far longer than the time from claim to fence."""

MOST_AT_ONCE = 1_000
"""Emails that one claim takes, at most. The planner has to know it, as the plan is kept for all batches."""

_UUIDS = sa.ARRAY(sa.UUID)
_IDS = sa.ARRAY(sa.BigInteger)


class ClaimedEmail(NamedTuple):
    """One claimed row with what is needed to render it. `lead` is None if deleted, `variant` if the step has none.

    What is made for each email is a named tuple: a frozen dataclass takes three times as long.
    """

    id: int
    campaign_id: uuid.UUID
    step_number: int
    lead: dict[str, Any] | None
    variant: int | None = None
    revision: int = 1
    content_at: dt.datetime | None = None
    """When its campaign was resumed, or its content was changed, last. A resume may have changed it."""
    from_address: str | None = None
    """Of its sender, in a campaign that has senders."""
    reply_to_address: str | None = None

    @property
    def content(self) -> tuple[uuid.UUID, int, dt.datetime | None]:
        """Names the version of its campaign's content that it sends."""
        return self.campaign_id, self.revision, self.content_at

    @property
    def has_address(self) -> bool:
        """Whether there is a lead to render it for. If not, the fence skips it."""
        return self.lead is not None and bool((self.lead["email"] or "").strip())


@dataclass(frozen=True)
class Fenced:
    """The rows that the fence let through, each with the address that it checked, and the other rows by reason."""

    sendable: dict[int, str]
    turned_away: dict[str, int]


_COLUMNS = """
       claimed.id, claimed.campaign_id, greatest(c.resumed_at, c.content_changed_at) AS content_at,
       claimed.revision, claimed.workflow_step_number, coalesce(kept.replaced_by, kept.variant) AS variant,
       l.id AS lead_id, l.email, l.company_name, l.contact_name, l.job_title, l.industry, l.city, l.country, l.website,
       l.phone, l.custom_fields, a.from_address, a.reply_to_address
"""
_JOINS = f"""
FROM claimed JOIN campaigns c ON c.id = claimed.campaign_id LEFT JOIN leads l ON l.id = claimed.lead_id
LEFT JOIN sender_addresses a ON a.id = claimed.sender_id
LEFT JOIN campaign_steps s ON {is_step_of("s", "claimed")}
LEFT JOIN campaign_step_variants kept ON {is_variant_of("kept", "s")}
      AND kept.variant = coalesce(claimed.variant, s.winner_variant, claimed.fallback_variant)
"""
_CLAIMED = f"SELECT {_COLUMNS}{_JOINS}"
# MATERIALIZED, because Postgres may otherwise run the limited part once for each joined row and claim more than :batch.
# That part locks the rows, so the update does not check their status again. With old statistics such a check would make
# the planner scan the whole index of due rows for each of them. Campaigns that others are changing are skipped this
# time (SKIP LOCKED). The limit shares the batch evenly among the campaigns with due rows, however long their backlogs.
# Rows of one campaign come together.
_CLAIM = sa.text(f"""{KEPT}
WITH run AS MATERIALIZED (
    SELECT c.id, c.late_hold_until FROM campaigns c
    WHERE {may_send("c")} AND c.prepared_alone = :alone AND NOT {has_lanes("c")}
      AND EXISTS (SELECT FROM scheduled_emails p WHERE p.campaign_id = c.id AND {due("p", "c")})
    ORDER BY CASE WHEN :alone THEN c.sender_deaths END, random() LIMIT CASE WHEN :alone THEN 1 ELSE 1000 END
    FOR KEY SHARE OF c SKIP LOCKED
), picked AS MATERIALIZED (
    SELECT id FROM (
        SELECT due.id FROM run CROSS JOIN LATERAL (
            SELECT e.id FROM scheduled_emails e
            WHERE e.campaign_id = run.id AND {due("e", "run")}
            ORDER BY e.scheduled_for, e.id
            LIMIT (SELECT greatest(1, ceil(CAST(:batch AS numeric) / greatest(count(*), 1)))::bigint FROM run)
            FOR UPDATE OF e SKIP LOCKED) due
        LIMIT :batch) batch
    LIMIT {MOST_AT_ONCE}
), claimed AS (
    UPDATE scheduled_emails e
    SET status = 'sending', claim_token = :token, lease_until = now() + :lease, updated_at = now()
    FROM picked WHERE e.id = picked.id
    RETURNING e.id, e.campaign_id, e.revision, e.workflow_step_number, e.lead_id, e.sender_id, e.variant,
              e.fallback_variant
)
{_CLAIMED} ORDER BY claimed.campaign_id, claimed.id
""").bindparams(
    sa.bindparam("token", type_=sa.UUID),
    sa.bindparam("lease", type_=sa.Interval),
    sa.bindparam("batch", type_=sa.Integer),
    sa.bindparam("alone", type_=sa.Boolean),
)

_FROM_LANES = f"SELECT {_COLUMNS}, claimed.offer, claimed.is_last {_JOINS}"
_CLAIM_FROM_LANES = {
    (limits, alone): claim_from_lanes(_FROM_LANES, limits, alone=alone) for limits in Limits for alone in (True, False)
}

_FIRST_DUE = sa.text(f"""
WITH claimed AS MATERIALIZED (
    SELECT first.* FROM campaigns c CROSS JOIN LATERAL (
        SELECT e.* FROM scheduled_emails e
        WHERE e.campaign_id = c.id AND {due("e", "c")} ORDER BY e.scheduled_for, e.id LIMIT 1) first
    WHERE {may_send("c")} AND NOT c.prepared_alone LIMIT 1000
)
{_CLAIMED}
""")

# Locked before, as in a claim, so that no claim under way counts without it.
_LOCK_ITS_SENDER = sa.text("""
    SELECT a.id FROM scheduled_emails e JOIN campaign_lanes l ON l.campaign_id = e.campaign_id AND l.lane = e.lane
    JOIN sender_addresses a ON a.id = l.sender_id
    WHERE e.id = :id FOR NO KEY UPDATE OF a
""").bindparams(sa.bindparam("id", type_=sa.BigInteger))
_LOCK_ITS_NEW_LEADS = sa.text(f"""
    SELECT pg_advisory_xact_lock({new_leads_key("c.id")})
    FROM scheduled_emails e JOIN campaigns c ON c.id = e.campaign_id
    WHERE e.id = :id AND coalesce(c.new_leads_per_day, c.new_leads_per_company_per_day) IS NOT NULL
""").bindparams(sa.bindparam("id", type_=sa.BigInteger))
# The same claim for one row by its id, for "send now".
_CLAIM_ONE = sa.text(f"""
WITH run AS MATERIALIZED (
    SELECT c.id, l.sender_id,
           e.workflow_step_number = 1 AND NOT l.follow_up
               AND coalesce(c.new_leads_per_day, c.new_leads_per_company_per_day) IS NOT NULL AS is_new,
           CASE WHEN c.new_leads_per_company_per_day IS NOT NULL THEN e.lead_company END AS company
    FROM campaigns c JOIN scheduled_emails e ON e.campaign_id = c.id
    LEFT JOIN campaign_lanes l ON l.campaign_id = c.id AND l.lane = e.lane
    LEFT JOIN sender_addresses a ON a.id = l.sender_id
    WHERE e.id = :id AND {may_send("c")} AND coalesce(a.status, 'active') = 'active' FOR KEY SHARE OF c
), claimed AS (
    UPDATE scheduled_emails e
    SET status = 'sending', claim_token = :token, lease_until = now() + :lease, updated_at = now(),
        sender_id = run.sender_id, company = run.company,
        sending_day = CASE WHEN run.sender_id IS NOT NULL OR run.is_new THEN CAST(:day AS date) END
    FROM run WHERE e.campaign_id = run.id AND e.id = :id AND e.status = 'pending'
    RETURNING e.id, e.campaign_id, e.revision, e.workflow_step_number, e.lead_id, e.sender_id, e.variant,
              e.fallback_variant
)
{_CLAIMED}
""").bindparams(
    sa.bindparam("token", type_=sa.UUID),
    sa.bindparam("lease", type_=sa.Interval),
    sa.bindparam("id", type_=sa.BigInteger),
    sa.bindparam("day", type_=sa.Date),
)

# In a separate statement, so that the fence sees opt-outs that were committed while this one waited.
_LOCK_CAMPAIGNS = sa.text(f"""{KEPT}
    SELECT id, greatest(resumed_at, content_changed_at) AS content_at, sending_schedule_id IS NOT NULL AS has_schedule
    FROM campaigns WHERE id = ANY(:ids) ORDER BY id FOR KEY SHARE
""").bindparams(sa.bindparam("ids", type_=_UUIDS))

# Only a row that is `sending` has a lease, so the check of the lease covers the status. The first verdict that matches
# wins. If an earlier step is still open, the row goes back and is due when it would be after that step's own time. If
# an earlier step failed, the row is skipped. A step of unknown outcome may have arrived, so it does not end the
# sequence.
# The lease is compared with the clock: now() is the time before the wait for the campaigns.
_FENCE = sa.text(f"""{KEPT}
WITH verdict AS MATERIALIZED (
    SELECT e.id, l.email, used.variant, used.email_template_id, {returned_reason("c")} AS campaign_reason,
           coalesce(earlier.open_until, earlier.gap_until) AS wait_until, CASE
        WHEN c.status <> 'running' THEN 'campaign'
        WHEN l.id IS NULL THEN 'lead_deleted'
        {no_mail_for_lead("l", address_of("l"), "e.campaign_id", is_answer("e"))}
        WHEN earlier.open_until IS NOT NULL THEN 'wait'
        -- Claimed before the campaign's content may have changed.
        WHEN e.id = ANY(:outdated) OR (e.variant IS NULL AND {is_undecided("step")}) THEN 'wait'
        -- Claimed together with the earlier step, which went out late. (A row that is not due was claimed by its id.)
        WHEN earlier.gap_until > now() AND e.scheduled_for <= now() THEN 'wait'
        WHEN earlier.failed THEN 'previous_step_failed'
        WHEN NOT {condition_is_met("step", "e")} THEN 'condition_not_met'
        ELSE 'send' END AS verdict
    FROM scheduled_emails e
    JOIN campaigns c ON c.id = e.campaign_id
    JOIN campaign_steps step ON {is_step_of("step", "e")}
    LEFT JOIN leads l ON l.id = e.lead_id
    -- For a row that was claimed while its variant was retired, the one that was rendered in its place.
    LEFT JOIN campaign_step_variants kept ON {is_variant_of("kept", "step")}
          AND kept.variant = coalesce(e.variant, step.winner_variant, e.fallback_variant)
    LEFT JOIN campaign_step_variants used ON {is_variant_of("used", "step")}
          AND used.variant = coalesce(kept.replaced_by, kept.variant)
    LEFT JOIN LATERAL (
        -- The earlier step goes now at the earliest. Until its gap has passed since, no claim need look at this one.
        SELECT max(greatest(p.scheduled_for, now())) FILTER (WHERE p.status = 'sending' OR {still_planned("p")})
                   + own.delay AS open_until,
               coalesce(max(business.gap_until), max({went_at("p")}) + own.delay) AS gap_until,
               bool_or(p.status = 'failed' AND p.error_code <> 'outcome_unknown') AS failed
        FROM scheduled_emails p
        CROSS JOIN (SELECT delay FROM campaign_steps s WHERE {is_step_of("s", "e")}) own
        LEFT JOIN json_to_recordset(CAST(:business_gaps AS json)) AS business (id bigint, gap_until timestamptz)
               ON business.id = e.id
        -- In here, so that nothing is looked up for a first step.
        WHERE e.workflow_step_number > 1 AND NOT {is_answer("e")}
          AND p.lead_id = e.lead_id AND p.campaign_id = e.campaign_id
          AND p.workflow_step_number < e.workflow_step_number
        GROUP BY own.delay
    ) earlier ON true
    WHERE e.id = ANY(:ids) AND e.claim_token = :token AND e.send_started_at IS NULL
      AND e.lease_until > clock_timestamp()
)
UPDATE scheduled_emails e SET
    status = CASE WHEN v.verdict = 'send' THEN 'sending'
                  WHEN v.verdict = 'wait' THEN 'pending'
                  WHEN v.verdict = 'campaign' THEN 'cancelled'
                  ELSE 'skipped' END,
    reason = CASE WHEN v.verdict IN ('send', 'wait') THEN NULL
                  WHEN v.verdict = 'campaign' THEN v.campaign_reason
                  ELSE v.verdict END,
    send_started_at = CASE WHEN v.verdict = 'send' THEN clock_timestamp() END,
    claim_token = CASE WHEN v.verdict = 'send' THEN e.claim_token END,
    lease_until = CASE WHEN v.verdict = 'send' THEN e.lease_until END,
    scheduled_for = CASE WHEN v.verdict = 'wait' THEN greatest(v.wait_until, now() + interval '1 minute')
                         ELSE e.scheduled_for END,
    variant = CASE WHEN v.verdict = 'send' THEN coalesce(v.variant, e.variant) ELSE e.variant END,
    template_id = coalesce(CASE WHEN v.verdict = 'send' THEN v.email_template_id END, e.template_id),
    -- Of what is sent, send_started_at says it: only what has changed is written to the WAL.
    updated_at = CASE WHEN v.verdict = 'send' THEN e.updated_at ELSE now() END
FROM verdict v
WHERE e.id = v.id AND e.claim_token = :token AND e.send_started_at IS NULL AND e.lease_until > clock_timestamp()
RETURNING e.id, e.status, e.reason, v.email
""").bindparams(
    sa.bindparam("ids", type_=_IDS), sa.bindparam("outdated", type_=_IDS), sa.bindparam("token", type_=sa.UUID)
)

_RELEASE = sa.text(f"""
WITH c AS MATERIALIZED (
    SELECT id, status FROM campaigns WHERE id = ANY(:campaign_ids) ORDER BY id FOR KEY SHARE
)
UPDATE scheduled_emails e
SET status = {returned_status("c")}, reason = {returned_reason("c")},
    claim_token = NULL, lease_until = NULL, updated_at = now()
FROM c
WHERE e.campaign_id = c.id AND e.id = ANY(:ids) AND e.claim_token = :token AND e.send_started_at IS NULL
  AND e.lease_until IS NOT NULL
""").bindparams(
    sa.bindparam("campaign_ids", type_=_UUIDS), sa.bindparam("ids", type_=_IDS), sa.bindparam("token", type_=sa.UUID)
)


def claim(
    connection: sa.Connection, batch: int, token: uuid.UUID, *, alone: bool = False, lanes: LaneQueue | None = None
) -> list[ClaimedEmail]:
    """Claim up to `batch` due emails of running campaigns, `MOST_AT_ONCE` at most. Each campaign with due emails gets
    an equal share.

    From a campaign with a sending policy only what may go now is claimed. A tick keeps the `lanes` that it has found.
    Where there are more such campaigns than a claim takes from, they take turns, and get equal shares of many claims.

    Campaigns whose emails were being prepared when a sender died are left out; `alone` claims from one of these only.
    After a crash the next sweep returns the rows.
    """
    parameters: dict[str, Any] = {"batch": batch, "token": token, "lease": LEASE}
    lanes = lanes or LaneQueue()
    # Once only: lanes whose companies have all used up their cap are found again and again, and give nothing.
    look = True
    while (offer := lanes.offer(connection, batch, alone=alone, look=look)) is not None:
        rows = _rows(connection.execute(_CLAIM_FROM_LANES[lanes.limits, alone], parameters | offer))
        lanes.note(rows)
        if rows:
            return [_claimed(row) for row in rows]
        # Others have been faster in the lanes that were offered. That says nothing of the rest.
        look = False
    return [_claimed(row) for row in _rows(connection.execute(_CLAIM, parameters | {"alone": alone}))]


def first_due(connection: sa.Connection) -> list[ClaimedEmail]:
    """The first due email of each campaign that `claim` claims from, to look at only: they are not claimed."""
    return [_claimed(row) for row in _rows(connection.execute(_FIRST_DUE))]


def count_due(connection: sa.Connection, limit: int) -> int:
    """How many emails could be claimed if none of them were locked, counted up to `limit`."""
    lanes = lane_parameters(open_zones(connection), budgets(connection))
    return int(connection.execute(COUNT_DUE, {"limit": limit, **lanes}).scalar_one())


def claim_one(connection: sa.Connection, scheduled_email_id: int, token: uuid.UUID) -> ClaimedEmail | None:
    """Claim this email, due or not. None if it is not pending, its campaign is not running, or its sender is
    disabled."""
    for lock in (_LOCK_ITS_SENDER, _LOCK_ITS_NEW_LEADS):
        connection.execute(lock, {"id": scheduled_email_id})
    day = sending_day_now(connection).date
    parameters = {"id": scheduled_email_id, "token": token, "lease": LEASE, "day": day}
    rows = _rows(connection.execute(_CLAIM_ONE, parameters))
    return _claimed(rows[0]) if rows else None


def _rows(result: sa.CursorResult[Any]) -> list[dict[str, Any]]:
    """As `mappings` gives them, in a third of the time for the many rows of a chunk."""
    names = tuple(result.keys())
    return [dict(zip(names, row, strict=True)) for row in result]


def _claimed(row: dict[str, Any]) -> ClaimedEmail:
    return ClaimedEmail(
        id=row["id"],
        campaign_id=row["campaign_id"],
        step_number=row["workflow_step_number"],
        lead=row if row["lead_id"] is not None else None,
        variant=row["variant"],
        revision=row["revision"],
        content_at=row["content_at"],
        from_address=row["from_address"],
        reply_to_address=row["reply_to_address"],
    )


def fence(connection: sa.Connection, emails: Sequence[ClaimedEmail], token: uuid.UUID) -> Fenced:
    """Decide which of these emails may still be sent. SES may be called for `sendable` ids only, once each.

    A row whose lease has expired is left alone, as it may have another owner.
    """
    locked = connection.execute(_LOCK_CAMPAIGNS, {"ids": sorted({email.campaign_id for email in emails})}).all()
    contents, scheduled = {(row.id, row.content_at) for row in locked}, [row.id for row in locked if row.has_schedule]
    ids = [email.id for email in emails]
    gaps = business_days.gaps(connection, ids, scheduled) if scheduled else {}
    parameters = {
        "ids": ids,
        "outdated": [email.id for email in emails if (email.campaign_id, email.content_at) not in contents],
        "token": token,
        "business_gaps": json.dumps([{"id": id_, "gap_until": until.isoformat()} for id_, until in gaps.items()]),
    }
    sendable: dict[int, str] = {}
    turned_away: dict[str, int] = {}
    for id_, status, reason, address in connection.execute(_FENCE, parameters):
        if status == ScheduledEmailStatus.SENDING:
            sendable[id_] = address
        else:
            key = reason or "waits_for_earlier_step"
            turned_away[key] = turned_away.get(key, 0) + 1
    return Fenced(sendable, turned_away)


def release(connection: sa.Connection, emails: Sequence[ClaimedEmail], token: uuid.UUID) -> int:
    """Return claimed rows that were not fenced. If the campaign was paused or cancelled meanwhile, they are
    cancelled."""
    parameters = {
        "ids": [email.id for email in emails],
        "campaign_ids": sorted({email.campaign_id for email in emails}),
        "token": token,
    }
    return connection.execute(_RELEASE, parameters).rowcount
