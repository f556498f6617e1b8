"""Campaigns with a sending policy that pause themselves, and go on."""

from __future__ import annotations

import datetime as dt
import uuid
from collections import Counter
from typing import Any

import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from sendledger.campaigns import lifecycle
from sendledger.sending.tick import Resources, send_due_emails, send_scheduled_email
from testbed.campaigns import DAY, NO_DELAY, campaign_row, make_campaign, rows_of, statuses
from testbed.invariants import assert_ledger_is_consistent
from testbed.moved_clock import MovedClock
from tests.campaigns.test_guardrails import take_in
from tests.policy.conftest import MONDAY, MakeSchedule, MakeSender

SECONDS = 60.0
HOUR = dt.timedelta(hours=1)


def started(engine: sa.Engine, leads: int, **policy: Any) -> uuid.UUID:
    with engine.connect() as connection:
        campaign_id = make_campaign(connection, leads, [NO_DELAY, DAY], **policy)
    lifecycle.start_campaign(engine, campaign_id)
    return campaign_id


def test_guardrail_pauses_all_lanes_and_a_resume_keeps_to_the_caps(
    make_sender: MakeSender,
    make_schedule: MakeSchedule,
    engine: sa.Engine,
    resources: Resources,
    ses: SesSimulator,
    clock: MovedClock,
) -> None:
    senders = [make_sender("ann", 30), make_sender("bob", 30)]
    campaign_id = started(engine, 64, sender_ids=senders, sending_schedule_id=make_schedule())
    assert send_due_emails(resources, SECONDS).sent == 60
    take_in(engine, ses.accepted()[:3], "Bounce")
    assert campaign_row(engine, campaign_id)["failure_reason"].startswith("Paused by a guardrail: 3 of the latest 60")
    # Tuesday at 15 o'clock in Berlin.
    clock.move_to(MONDAY + 25 * HOUR)
    assert send_due_emails(resources, SECONDS).claimed == 0
    assert statuses(engine, campaign_id) == {"sent": 60, "skipped": 3, "cancelled": 65}
    lifecycle.resume_campaign(engine, campaign_id)
    # The second steps are due 24 hours later than they were, and the first steps go now.
    assert send_due_emails(resources, SECONDS).sent == 4
    for _ in clock.ticks(MONDAY + 26 * HOUR, MONDAY + 6 * DAY, 2 * HOUR):
        send_due_emails(resources, SECONDS)
    assert statuses(engine, campaign_id) == {"sent": 125, "skipped": 3}
    by_day = Counter((row["sender_id"], row["sending_day"]) for row in rows_of(engine, campaign_id) if row["sent_at"])
    assert max(by_day.values()) <= 30
    assert_ledger_is_consistent(engine, ses)


def test_send_now_from_a_sender_that_ses_has_not_verified_pauses_the_campaign_and_fails_nothing(
    make_sender: MakeSender, engine: sa.Engine, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = started(engine, 2, sender_ids=[make_sender("ann", 5)])
    ses.account.identities = {"ann@example.com": {"VerifiedForSendingStatus": False}}
    (first, *_) = rows_of(engine, campaign_id)
    send_scheduled_email(resources, first["id"])
    campaign = campaign_row(engine, campaign_id)
    assert (campaign["status"], "not verified" in campaign["failure_reason"]) == ("paused", True)
    assert send_due_emails(resources, SECONDS).claimed == 0
    assert statuses(engine, campaign_id) == {"cancelled": 4}
    ses.account.identities = {}
    lifecycle.resume_campaign(engine, campaign_id)
    assert send_due_emails(resources, SECONDS).sent == 2
    assert_ledger_is_consistent(engine, ses)
