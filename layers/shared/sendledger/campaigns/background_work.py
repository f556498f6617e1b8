"""Background work: changing millions of scheduled emails after their campaign's status has changed.

A status change must take effect immediately, but a million leads take longer than an HTTP request may. So one short
transaction changes the status and appends to `campaigns.background_work`, a queue of changes to the rows:

    {"kind": "schedule", "bucket": 3, "buckets": 20}     write the next bucket of the audience
    {"kind": "intake", "bucket": 0, "buckets": 0}        write the leads that have come into the audience since; with
                                                          "batch_ids", those of these imports only
    {"kind": "pause"}                                     pending rows become cancelled with reason "paused"
    {"kind": "resume", "shift_seconds": 60.0, "after_id": 0}   the rows of the pause become pending again, later
    {"kind": "cancel"}                                    pending rows become cancelled with reason "campaign_cancelled"
    {"kind": "release_late", …} / {"kind": "skip_late", …}     what an operator decided about held rows; where a pause
                                                               had cancelled them, with `paused_at` and `after_id`
    {"kind": "retry_failed", "codes": null, "after": […]} failed rows are put back
    {"kind": "split_again", "step_number": 1, "variant": 2, "after_id": 0}   unsent rows of a retired variant
    {"kind": "bring_forward", "step_number": 1, …}        rows that waited for a winner are due earlier

The first entry is processed in chunks. Each chunk is one transaction that also stores the progress, so after a crash
nothing is repeated or left out. While the queue is not empty, the sender claims nothing from the campaign and the
campaign cannot complete. Reads and writes `campaigns` and `scheduled_emails`; writes `audit_log`.
"""

from __future__ import annotations

import datetime as dt
import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from sendledger.campaigns import failed_emails, schedule_emails, variants, winners
from sendledger.campaigns.audience import audience_of, audience_of_imports, audience_size
from sendledger.campaigns.campaign_steps import count_steps
from sendledger.campaigns.campaigns import get_campaign
from sendledger.campaigns.revisions import newest_revision
from sendledger.campaigns.schedule_emails import counters, schedule_leads
from sendledger.core import audit_log
from sendledger.core.audit_log import SYSTEM
from sendledger.core.ledger_rules import is_paused, is_pending, waits_in_lane
from sendledger.core.tables import campaigns
from sendledger.core.vocabulary import AuditAction, Reason

ROWS_PER_CHUNK = 10_000
"""A chunk locks its campaign for a fraction of a second. During that time no results of the campaign can be
recorded."""

# The rows of a chunk are locked when they are selected, and the update does not check their status again. With old
# statistics the planner would compare each row of the chunk with all rows of that status.
_CANCEL = sa.text(f"""
    WITH chunk AS MATERIALIZED (
        SELECT id FROM scheduled_emails p WHERE campaign_id = :campaign_id AND {is_pending("p")}
        ORDER BY scheduled_for, id LIMIT :limit FOR UPDATE
    )
    UPDATE scheduled_emails e SET status = 'cancelled', reason = :reason, updated_at = now()
    FROM chunk WHERE e.id = chunk.id
""").bindparams(sa.bindparam("campaign_id", type_=sa.UUID))
_RESUME = sa.text("""
    WITH chunk AS MATERIALIZED (
        SELECT id FROM scheduled_emails
        WHERE campaign_id = :campaign_id AND id > :after_id AND status = 'cancelled' AND reason = 'paused'
        ORDER BY id LIMIT :limit FOR UPDATE
    ), moved AS (
        UPDATE scheduled_emails e
        SET status = 'pending', reason = NULL, updated_at = now(),
            scheduled_for = e.scheduled_for + make_interval(secs => :shift_seconds)
        FROM chunk WHERE e.id = chunk.id
        RETURNING e.id
    )
    SELECT (SELECT count(*) FROM moved), (SELECT count(*) FROM chunk), (SELECT max(id) FROM chunk)
""").bindparams(sa.bindparam("campaign_id", type_=sa.UUID), sa.bindparam("shift_seconds", type_=sa.Double))
# What is held of a whole campaign, and of its lanes.
_LATE_PENDING = f"""
    whole AS MATERIALIZED (
        SELECT id FROM scheduled_emails p
        WHERE campaign_id = :campaign_id AND {is_pending("p")} AND scheduled_for <= :until
        ORDER BY scheduled_for, id LIMIT :limit FOR UPDATE
    ), in_lanes AS MATERIALIZED (
        SELECT late.*, held.until
        FROM held CROSS JOIN LATERAL (
            SELECT p.id, p.lead_id, p.workflow_step_number FROM scheduled_emails p
            WHERE p.campaign_id = :campaign_id AND p.lane = held.lane AND {waits_in_lane("p")}
              AND {is_pending("p")} AND p.scheduled_for <= held.until
            ORDER BY p.scheduled_for, p.id LIMIT :limit FOR UPDATE) late
        LIMIT :limit
    )
"""
# The same of a paused campaign. Its rows are in no index of open rows, so all that the pause has cancelled are read,
# each once: the next chunk begins behind this one.
_LATE_PAUSED = f"""
    in_lanes AS MATERIALIZED (
        SELECT p.id, p.lead_id, p.workflow_step_number, held.until
        FROM scheduled_emails p LEFT JOIN held ON held.lane = p.lane AND {waits_in_lane("p")}
        WHERE p.campaign_id = :campaign_id AND {is_paused("p")} AND p.id > :after_id
          AND p.scheduled_for <= greatest(:until, held.until)
        ORDER BY p.id LIMIT :limit FOR UPDATE OF p
    ), whole AS (SELECT id FROM in_lanes)
"""


def _decide_late(late: str, waits: Callable[[str], str]) -> sa.TextClause:
    """A skip ends a chunk of what is `late`. A release makes it due at `due_at`, or now. `waits`: as these rows do.

    With a step of a lane, a skip ends the later ones of the lead that were due by the same time, or are held in their
    own lane: behind that step, they were in none. Returns how many rows have changed, and up to which id nothing of
    `in_lanes` is left.
    """
    return sa.text(f"""
    WITH held AS MATERIALIZED (
        SELECT CAST(lane AS smallint) AS lane, CAST(until AS timestamptz) AS until
        FROM json_each_text(CAST(:lanes AS json)) held (lane, until)
    ), {late}, behind AS MATERIALIZED (
        SELECT p.id FROM in_lanes i JOIN scheduled_emails p ON p.lead_id = i.lead_id AND p.campaign_id = :campaign_id
        LEFT JOIN held ON held.lane = p.lane
        WHERE :skip AND p.workflow_step_number > i.workflow_step_number AND p.is_behind AND {waits("p")}
          AND p.scheduled_for <= greatest(i.until, held.until)
        FOR UPDATE OF p
    ), chunk AS MATERIALIZED (
        -- Those behind first: without the step before them they are not found again.
        SELECT id FROM (SELECT id, 1 AS turn FROM behind UNION ALL SELECT id, 2 FROM in_lanes
                        UNION ALL SELECT id, 2 FROM whole) late
        GROUP BY id ORDER BY min(turn), id LIMIT :limit
    ), decided AS (
        UPDATE scheduled_emails e
        SET status = CASE WHEN :skip THEN 'skipped' ELSE e.status END,
            reason = CASE WHEN :skip THEN 'late' ELSE e.reason END,
            scheduled_for = CASE WHEN :skip THEN e.scheduled_for ELSE coalesce(:due_at, now()) END,
            updated_at = now()
        FROM chunk WHERE e.id = chunk.id
        RETURNING e.id
    )
    SELECT (SELECT count(*) FROM decided),
           coalesce((SELECT min(id) - 1 FROM (SELECT id FROM in_lanes EXCEPT SELECT id FROM chunk) left_over),
                    (SELECT max(id) FROM in_lanes))
    """).bindparams(
        sa.bindparam("campaign_id", type_=sa.UUID),
        sa.bindparam("skip", type_=sa.Boolean),
        sa.bindparam("until", type_=sa.TIMESTAMP(timezone=True)),
        sa.bindparam("due_at", type_=sa.TIMESTAMP(timezone=True)),
        sa.bindparam("lanes", type_=sa.Text),
    )


_LATE = _decide_late(_LATE_PENDING, is_pending)
_LATE_IN_PAUSE = _decide_late(_LATE_PAUSED, is_paused)


def cancel_scheduled_emails(
    connection: sa.Connection, campaign_id: uuid.UUID, reason: str, limit: int = ROWS_PER_CHUNK
) -> int:
    """Cancel up to `limit` pending rows, the next due first; returns how many."""
    return connection.execute(_CANCEL, {"campaign_id": campaign_id, "reason": reason, "limit": limit}).rowcount


def work_once(connection: sa.Connection, campaign_id: uuid.UUID) -> int:
    """Process one chunk of the campaign's background work. Returns the rows changed. The caller commits.

    It locks the campaign first. An empty queue gives 0.
    """
    campaign = get_campaign(connection, campaign_id, lock=True)
    queue: list[dict[str, Any]] = list(campaign["background_work"])
    if not queue:
        return 0
    work = queue[0]
    values: dict[str, Any] = {}
    chunk = {"campaign_id": campaign_id, "limit": ROWS_PER_CHUNK}
    match work["kind"]:
        case "schedule" | "intake" as kind:
            changed, values = _BUCKETS[kind](connection, campaign, work)
            finished = work["bucket"] == work["buckets"]
        case "pause":
            changed = cancel_scheduled_emails(connection, campaign_id, Reason.PAUSED)
            finished = changed < ROWS_PER_CHUNK
        case "cancel":
            changed = cancel_scheduled_emails(connection, campaign_id, Reason.CAMPAIGN_CANCELLED)
            finished = changed < ROWS_PER_CHUNK
        case "resume":
            since = {"after_id": work["after_id"], "shift_seconds": work["shift_seconds"]}
            changed, found, last = connection.execute(_RESUME, chunk | since).one()
            finished = found < ROWS_PER_CHUNK
            work["after_id"] = last or work["after_id"]
        case "release_late" | "skip_late":
            changed = _end_hold(connection, campaign_id, work)
            finished = changed < ROWS_PER_CHUNK
        case "retry_failed":
            changed, work["after"] = failed_emails.put_back(connection, campaign_id, work, ROWS_PER_CHUNK)
            finished = changed < ROWS_PER_CHUNK
            values = {"emails_failed_count": campaigns.c.emails_failed_count - changed}
        case "split_again":
            changed, work["after_id"] = variants.split_again(connection, campaign_id, work, ROWS_PER_CHUNK)
            finished = changed < ROWS_PER_CHUNK
        case "bring_forward":
            changed, work["after_id"] = winners.bring_forward(connection, campaign_id, work, ROWS_PER_CHUNK)
            finished = changed < ROWS_PER_CHUNK
        case kind:
            raise AssertionError(f"unknown background work {kind}")
    work["rows_done"] = work.get("rows_done", 0) + changed
    connection.execute(
        sa.update(campaigns)
        .where(campaigns.c.id == campaign_id)
        .values(background_work=queue[1:] if finished else queue, updated_at=sa.func.now(), **values)
    )
    return changed


def _end_hold(connection: sa.Connection, campaign_id: uuid.UUID, work: dict[str, Any]) -> int:
    """Release or skip what was held; returns how many. A step that a skip lets go may be late, too.

    What was released in a pause is due when the pause began. So the resume makes it due at once.
    """
    skip, until, paused_at = work["kind"] == "skip_late", work.get("until"), work.get("paused_at")
    statement = _LATE if paused_at is None else _LATE_IN_PAUSE
    held = {
        "campaign_id": campaign_id,
        "skip": skip,
        "until": dt.datetime.fromisoformat(until) if until is not None else None,
        "due_at": dt.datetime.fromisoformat(paused_at) if paused_at is not None else None,
        "lanes": json.dumps(work.get("lanes", {})),
    }
    done = 0
    while done < ROWS_PER_CHUNK:
        if paused_at is not None:
            held["after_id"] = work.setdefault("after_id", 0)
        changed, last = connection.execute(statement, {**held, "limit": ROWS_PER_CHUNK - done}).one()
        if paused_at is not None:
            work["after_id"] = last or work["after_id"]
        done += changed
        if not (changed and skip):
            break
    return done


def _schedule_bucket(
    connection: sa.Connection, campaign: sa.RowMapping, work: dict[str, Any]
) -> tuple[int, dict[str, Any]]:
    """Write the next bucket of the audience; returns the rows written and what changes in the campaign."""
    audience, start_at = audience_of(connection, campaign), campaign["actual_started_at"]
    done = schedule_leads(connection, campaign, audience, start_at, work["bucket"], work["buckets"])
    work["bucket"] += 1
    return done.emails, counters(campaign, done)


def _take_in_bucket(
    connection: sa.Connection, campaign: sa.RowMapping, work: dict[str, Any]
) -> tuple[int, dict[str, Any]]:
    """The same for the leads that have come into its audience since its start; their steps count from now."""
    audience = audience_of(connection, campaign, newcomers=True)
    if (batch_ids := work.get("batch_ids")) is not None:
        audience = audience_of_imports(campaign, [uuid.UUID(each) for each in batch_ids])
    if work["buckets"] == 0:
        campaign, _ = newest_revision(connection, campaign, SYSTEM)
        now = connection.execute(sa.select(sa.func.now())).scalar_one()
        rows = audience_size(connection, audience) * count_steps(connection, campaign["id"], campaign["revision"])
        work |= {"buckets": max(1, -(-rows // schedule_emails.ROWS_PER_BUCKET)), "came_in_at": now.isoformat()}
    came_in_at = dt.datetime.fromisoformat(work["came_in_at"])
    done = schedule_leads(connection, campaign, audience, came_in_at, work["bucket"], work["buckets"])
    work["bucket"] += 1
    work["leads"] = work.get("leads", 0) + done.leads
    if work["bucket"] == work["buckets"] and work["leads"]:
        detail = {"leads": work["leads"], "emails": work.get("rows_done", 0) + done.emails}
        audit_log.record(connection, SYSTEM, AuditAction.CAMPAIGN_LEADS_ADD, "campaign", campaign["id"], detail)
    return done.emails, {**counters(campaign, done), **({"idle_since": None} if done.leads else {})}


_BUCKETS = {"schedule": _schedule_bucket, "intake": _take_in_bucket}


def work_until(engine: sa.Engine, campaign_id: uuid.UUID, deadline: float) -> int:
    """Process the queue, a transaction for each chunk, until it is empty or `time.monotonic()` passes the deadline.

    Returns the rows changed. Concurrent callers take turns and repeat nothing.
    """
    changed = 0
    while True:
        with engine.begin() as connection:
            changed += work_once(connection, campaign_id)
            left = connection.scalar(sa.select(campaigns.c.background_work).where(campaigns.c.id == campaign_id))
        if not left or time.monotonic() >= deadline:
            return changed


def campaigns_with_work(connection: sa.Connection) -> list[uuid.UUID]:
    """The campaigns whose rows lag behind their status, oldest first."""
    query = sa.select(campaigns.c.id).where(
        campaigns.c.background_work != sa.literal([], campaigns.c.background_work.type)
    )
    return list(connection.scalars(query.order_by(campaigns.c.actual_started_at)))
