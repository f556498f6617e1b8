"""What must hold whatever happened: the ledger in the database against the ledger of what SES accepted."""

from __future__ import annotations

import datetime as dt
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from sendledger.core.tables import campaigns, scheduled_emails
from sendledger.core.vocabulary import TERMINAL_STATUSES
from sendledger.sending.tick import Resources, send_due_emails
from testbed.campaigns import pass_time

LONGER_THAN_ANY_GRACE = dt.timedelta(minutes=20)
"""Leases, the grace time, a quota stop and every retry lie within it."""


def let_it_settle(engine: sa.Engine, resources: Resources, ticks: int = 40) -> None:
    """Tick with time passing in between until no running campaign has an open row; at most so many ticks.

    Time passes in steps shorter than what the late guard takes for an outage.
    """
    for _ in range(ticks):
        pass_time(engine, LONGER_THAN_ANY_GRACE)
        send_due_emails(resources, 60.0)
        with engine.connect() as connection:
            if not connection.execute(_UNSETTLED).scalar_one():
                return
        with engine.begin() as connection:
            # Nothing is due yet: skip the time until something is.
            wait = connection.execute(_NEXT_DUE).scalar_one()
        if wait is not None and wait > dt.timedelta(0):
            pass_time(engine, wait)
            with engine.begin() as connection:
                connection.execute(sa.text("UPDATE sender_state SET last_tick_at = now()"))
    with engine.connect() as connection:
        open_rows = connection.execute(_OPEN_ROWS).all()
    raise AssertionError(f"still not at rest after {ticks} ticks: {open_rows}")


_UNSETTLED = sa.text("""
    SELECT count(*) FROM campaigns c
    WHERE c.status = 'running' OR c.background_work <> '[]'
       OR EXISTS (SELECT FROM scheduled_emails e WHERE e.campaign_id = c.id AND e.status = 'sending')
""")
_NEXT_DUE = sa.text("SELECT min(scheduled_for) - now() FROM scheduled_emails WHERE status = 'pending'")
_OPEN_ROWS = sa.text("""
    SELECT c.status, c.background_work, e.id, e.status, e.scheduled_for, e.lease_until, e.send_started_at
    FROM campaigns c LEFT JOIN scheduled_emails e ON e.campaign_id = c.id AND e.status IN ('pending', 'sending')
    WHERE c.status NOT IN ('completed', 'cancelled', 'failed') LIMIT 20
""")


@dataclass(frozen=True)
class Consistency:
    """The counts of a consistent ledger."""

    emails_accepted: int
    emails_by_status: dict[str, int]
    outcome_unknown: int


def assert_ledger_is_consistent(engine: sa.Engine, simulator: SesSimulator, *, quiet: bool = True) -> Consistency:
    """Once quiet (`let_it_settle`, or nothing under way): nothing twice, nothing lost, nothing completed early.

    An email that an operator requeued may be there once more for each time. With `quiet` false a sender may have died
    a moment ago: what it had in hand is still `sending`.
    """
    with engine.connect() as connection:
        rows = {
            row["id"]: row for row in connection.execute(sa.select(scheduled_emails).order_by("id")).mappings().all()
        }
        by_campaign = {row["id"]: row for row in connection.execute(sa.select(campaigns)).mappings()}
        settled = connection.execute(
            sa.text("SELECT action, entity_id FROM audit_log WHERE entity_type = 'scheduled_email'")
        ).all()
        stored = Counter(
            connection.scalars(sa.text("SELECT scheduled_email_id FROM emails WHERE scheduled_email_id IS NOT NULL"))
        )
        lead_counts = connection.execute(_LEAD_COUNTS).all()
        miscounted = connection.execute(_MISCOUNTED).all()
        miscounted_days = connection.execute(_MISCOUNTED_DAYS).all()
    requeued = Counter(int(id_) for action, id_ in settled if action == "scheduled_email.requeue")
    vouched = {int(id_) for action, id_ in settled if action == "scheduled_email.mark_sent"}
    accepted = simulator.accepted()
    times_accepted = Counter(int(email.tags["scheduled_email_id"]) for email in accepted)
    message_ids = {email.message_id for email in accepted}

    twice = {id_: count for id_, count in times_accepted.items() if count > 1 + requeued[id_]}
    assert not twice, f"sent more than once: {twice}"
    for id_ in times_accepted:
        row = rows[id_]
        unknown = row["status"] == "failed" and row["error_code"] == "outcome_unknown"
        in_hand = row["status"] == "sending" and not quiet
        known = row["status"] == "sent" or unknown or in_hand or requeued[id_]
        assert known, f"SES accepted it, the ledger denies it: {row}"
    for id_, row in rows.items():
        if row["status"] == "sent":
            assert times_accepted[id_] or id_ in vouched, f"lost: {row}"
            assert row["ses_message_id"] in message_ids or row["ses_message_id"] is None, f"wrong message id: {row}"
            assert row["email_id"] is not None or row["lead_id"] is None, f"the email is not kept: {row}"
        assert stored[id_] <= 1, f"kept twice: {row}"
        assert row["status"] != "sending" or not quiet, f"left behind: {row}"
        if row["status"] == "pending" and not by_campaign[row["campaign_id"]]["background_work"]:
            assert by_campaign[row["campaign_id"]]["status"] == "running", f"pending in a campaign at rest: {row}"
    for campaign in by_campaign.values():
        own = [row for row in rows.values() if row["campaign_id"] == campaign["id"]]
        _check_campaign(campaign, own, quiet)
    _check_order([int(email.tags["scheduled_email_id"]) for email in accepted], rows, requeued)
    wrong = [count for count in lead_counts if count.emails_sent != count.sent]
    assert not wrong, f"leads.emails_sent differs from the ledger: {wrong}"
    assert not miscounted, f"result_counts differs from the ledger, by so many: {miscounted}"
    assert not miscounted_days, f"daily_counts differs from campaign_counts, by so many: {miscounted_days}"
    return Consistency(
        emails_accepted=len(accepted),
        emails_by_status=dict(Counter(row["status"] for row in rows.values())),
        outcome_unknown=sum(row["error_code"] == "outcome_unknown" for row in rows.values()),
    )


_LEAD_COUNTS = sa.text("""
    SELECT l.id, coalesce(l.emails_sent, 0) AS emails_sent, count(e.id) AS sent
    FROM leads l LEFT JOIN scheduled_emails e ON e.lead_id = l.id AND e.status = 'sent' GROUP BY l.id
""")


# What is counted by revision, variant and sender, less what the ledger and the emails say.
_MISCOUNTED = sa.text("""
    SELECT campaign_id, revision, step_number, variant, sender_id, what, sum(n) FROM (
        SELECT campaign_id, revision, step_number, variant, nullif(sender_id::text, :nobody) AS sender_id, what,
               count AS n
        FROM result_counts
        UNION ALL
        SELECT e.campaign_id, e.revision, e.workflow_step_number, coalesce(e.variant, 0), l.sender_id::text, c.what, -1
        FROM scheduled_emails e LEFT JOIN campaign_lanes l ON l.campaign_id = e.campaign_id AND l.lane = e.lane
        LEFT JOIN emails m ON m.scheduled_email_id = e.id
        CROSS JOIN LATERAL (VALUES
            ('emails', true), (e.status, e.status NOT IN ('pending', 'sending')),
            ('delivered', m.delivered_at IS NOT NULL), ('opened', m.opened_at IS NOT NULL),
            ('clicked', m.clicked_at IS NOT NULL), ('bounced', m.bounced_at IS NOT NULL),
            ('soft_bounced', m.soft_bounced_at IS NOT NULL), ('complained', m.delivery_status = 'complained')
        ) c (what, has)
        WHERE c.has AND (e.revision > 1 OR e.variant IS NOT NULL OR l.sender_id IS NOT NULL)
    ) counts GROUP BY 1, 2, 3, 4, 5, 6 HAVING sum(n) <> 0
""").bindparams(nobody=str(uuid.UUID(int=0)))

_MISCOUNTED_DAYS = sa.text("""
    SELECT day, what, sum(n) FROM (
        SELECT day, what, count AS n FROM daily_counts
        UNION ALL
        SELECT CAST(hour AT TIME ZONE 'UTC' AS date), what, -count FROM campaign_counts WHERE hour > '-infinity'
    ) counts GROUP BY 1, 2 HAVING sum(n) <> 0
""")


def _check_campaign(campaign: sa.RowMapping, rows: list[sa.RowMapping], quiet: bool) -> None:
    counted = Counter(row["status"] for row in rows)
    open_rows = sum(row["status"] not in TERMINAL_STATUSES for row in rows)
    if campaign["status"] == "completed":
        assert not open_rows, f"completed with {open_rows} open rows: {campaign['id']}"
    if quiet and campaign["status"] == "running" and not campaign["background_work"]:
        assert open_rows, f"nothing is open and it is not completed: {campaign['id']}"
    counters = (
        campaign["emails_scheduled_count"],
        campaign["emails_sent_count"],
        campaign["emails_sent"],
        campaign["emails_failed_count"],
    )
    assert counters == (len(rows), counted["sent"], counted["sent"], counted["failed"]), f"{counters} but {counted}"


def _check_order(sent_ids: list[int], rows: dict[int, Any], requeued: Counter[int]) -> None:
    """No step of a lead overtook an earlier one."""
    last: dict[tuple[Any, Any], int] = {}
    for id_ in sent_ids:
        row = rows[id_]
        if row["lead_id"] is None or requeued[id_]:
            continue
        key = (row["campaign_id"], row["lead_id"])
        assert last.get(key, 0) <= row["workflow_step_number"], f"overtook an earlier step: {row}"
        last[key] = row["workflow_step_number"]


def wait_for(condition: Callable[[], object], what: str, seconds: float = 300.0) -> None:
    """Returns when the condition holds. Raises AssertionError where it does not come true in time."""
    never = threading.Event()
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} has not happened within {seconds} s"
        never.wait(0.005)
