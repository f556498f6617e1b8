"""Later steps of leads whose first step waits for a cap: no claim looks at them, and each goes on when it may."""

from __future__ import annotations

import datetime as dt
import uuid
from collections import Counter

import pytest
import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from sendledger.campaigns import campaigns, late_emails, lifecycle
from sendledger.core.tables import campaigns as campaigns_table
from sendledger.core.tables import leads, scheduled_emails
from sendledger.ledger import claim_emails, sweep
from sendledger.preflight import diagnose
from sendledger.sending.tick import Resources, send_due_emails
from testbed.campaigns import DAY, NO_DELAY, campaign_row, make_campaign, rows_of, statuses
from testbed.moved_clock import MovedClock
from testbed.senders import sender_resources
from tests.policy.conftest import MONDAY, MakeSchedule, MakeSender

SECONDS = 60.0
HOUR = dt.timedelta(hours=1)


def started(engine: sa.Engine, count: int = 4, new_leads_per_day: int | None = 1) -> uuid.UUID:
    """Three steps, a day apart, and one new lead a day."""
    with engine.connect() as connection:
        campaign_id = make_campaign(connection, count, [NO_DELAY, DAY, DAY], new_leads_per_day=new_leads_per_day)
    lifecycle.start_campaign(engine, campaign_id)
    return campaign_id


@pytest.fixture
def resources(sender_engine: sa.Engine, ses: SesSimulator) -> Resources:
    """A sender that ticks twice a day, and does not take that for an outage."""
    return sender_resources(sender_engine, ses.url, LATE_AFTER_MINUTES="1000000")


@pytest.fixture(autouse=True)
def monday(clock: MovedClock) -> None:
    clock.move_to(MONDAY)


def test_steps_behind_one_that_waits_for_a_cap_are_not_touched(
    engine: sa.Engine, resources: Resources, clock: MovedClock
) -> None:
    campaign_id = started(engine, 5)
    first = rows_of(engine, campaign_id)
    for now in clock.ticks(MONDAY + HOUR, MONDAY + 3 * DAY, DAY / 2):
        assert now
        send_due_emails(resources, SECONDS)
    now_sent = {row["lead_id"] for row in rows_of(engine, campaign_id) if row["status"] == "sent"}
    assert len(now_sent) == 4
    untouched = [row for row in rows_of(engine, campaign_id) if row["lead_id"] not in now_sent]
    assert untouched == [row for row in first if row["lead_id"] not in now_sent]
    assert len(untouched) == 3


def test_each_lead_gets_all_steps_with_their_gaps(
    engine: sa.Engine, resources: Resources, ses: SesSimulator, clock: MovedClock
) -> None:
    campaign_id = started(engine)
    for _ in clock.ticks(MONDAY + HOUR, MONDAY + 8 * DAY, DAY / 2):
        send_due_emails(resources, SECONDS)
    assert statuses(engine, campaign_id) == {"sent": 12}
    assert campaign_row(engine, campaign_id)["status"] == "completed"
    sent: dict[uuid.UUID, list[dt.datetime]] = {}
    for row in rows_of(engine, campaign_id):
        sent.setdefault(row["lead_id"], []).append(row["sent_at"])
    assert all(times[1] - times[0] >= DAY and times[2] - times[1] >= DAY for times in sent.values())


def behind(engine: sa.Engine, campaign_id: uuid.UUID) -> Counter[int]:
    return Counter(row["workflow_step_number"] for row in rows_of(engine, campaign_id) if row["is_behind"])


def test_step_after_one_of_unknown_outcome_goes_on_with_its_gap(
    engine: sa.Engine, resources: Resources, clock: MovedClock
) -> None:
    campaign_id = started(engine, 1)
    clock.move_to(MONDAY + 2 * DAY)
    token = uuid.uuid4()
    with engine.begin() as connection:
        claim_emails.fence(connection, claim_emails.claim(connection, 1, token), token)
    clock.move_to(MONDAY + 2 * DAY + HOUR)
    with engine.begin() as connection:
        assert sweep.sweep(connection).unknown == 1
    assert behind(engine, campaign_id) == {3: 1}
    (second,) = [row for row in rows_of(engine, campaign_id) if row["workflow_step_number"] == 2]
    assert second["scheduled_for"] >= MONDAY + 3 * DAY


@pytest.mark.parametrize("end", ["skipped", "cancelled", "failed"])
def test_next_step_follows_whatever_ends_the_one_before(engine: sa.Engine, end: str) -> None:
    campaign_id = started(engine, 2)
    ended = {"status": end, "reason": "late"} if end != "failed" else {"status": end, "error_code": "message_rejected"}
    if end == "failed":
        ended["failed_at"] = sa.func.now()  # type: ignore[assignment]
    with engine.begin() as connection:
        connection.execute(
            sa.update(scheduled_emails).where(scheduled_emails.c.workflow_step_number == 1).values(ended)
        )
    assert behind(engine, campaign_id) == {3: 2}


def test_pause_and_resume_leave_steps_behind_where_they_are(engine: sa.Engine) -> None:
    campaign_id = started(engine, 2)
    lifecycle.pause_campaign(engine, campaign_id)
    assert behind(engine, campaign_id) == {2: 2, 3: 2}
    lifecycle.resume_campaign(engine, campaign_id)
    assert behind(engine, campaign_id) == {2: 2, 3: 2}


def test_steps_of_a_deleted_lead_end(engine: sa.Engine, resources: Resources, clock: MovedClock) -> None:
    campaign_id = started(engine, 2)
    with engine.begin() as connection:
        connection.execute(sa.delete(leads))
    assert behind(engine, campaign_id) == {}
    for _ in clock.ticks(MONDAY + HOUR, MONDAY + 4 * DAY, DAY):
        send_due_emails(resources, SECONDS)
    assert statuses(engine, campaign_id) == {"skipped": 6}
    assert campaign_row(engine, campaign_id)["status"] == "completed"


def test_steps_behind_are_neither_overdue_nor_held(engine: sa.Engine, clock: MovedClock) -> None:
    started(engine)
    with engine.begin() as connection:
        late_emails.hold_after_outage(connection, 6 * HOUR)
    clock.move_to(MONDAY + 5 * DAY)
    with engine.begin() as connection:
        assert diagnose.oldest_due_seconds(connection) == 0
        assert late_emails.hold_after_outage(connection, 6 * HOUR) == 0


def test_diagnose_counts_no_steps_behind_as_due(engine: sa.Engine, resources: Resources, clock: MovedClock) -> None:
    campaign_id = started(engine)
    clock.move_to(MONDAY + 5 * DAY)
    send_due_emails(resources, SECONDS)
    with engine.connect() as connection:
        found = diagnose.diagnose(connection, campaign_id, "test")
    assert (found.cause, found.detail["due"]) == ("new_leads_cap_reached", 3)


def test_steps_are_behind_again_when_a_failed_one_is_put_back(
    engine: sa.Engine, resources: Resources, clock: MovedClock
) -> None:
    campaign_id = started(engine, 2)
    rows = scheduled_emails.c
    refused = {"status": "failed", "error_code": "cannot_connect", "failed_at": sa.func.now()}
    skipped = {"status": "skipped", "reason": "previous_step_failed"}
    with engine.begin() as connection:
        connection.execute(sa.update(scheduled_emails).where(rows.workflow_step_number == 1).values(refused))
        connection.execute(sa.update(scheduled_emails).where(rows.workflow_step_number > 1).values(skipped))
        connection.execute(sa.update(campaigns_table).values(emails_failed_count=2))
    assert behind(engine, campaign_id) == {}
    lifecycle.retry_failed_emails(engine, campaign_id, None, "test")
    assert behind(engine, campaign_id) == {2: 2, 3: 2}
    for _ in clock.ticks(MONDAY + HOUR, MONDAY + 5 * DAY, DAY / 2):
        send_due_emails(resources, SECONDS)
    assert statuses(engine, campaign_id) == {"sent": 6}


def test_scheduled_start_keeps_hours_and_caps(
    engine: sa.Engine,
    sender_engine: sa.Engine,
    ses: SesSimulator,
    clock: MovedClock,
    make_schedule: MakeSchedule,
    make_sender: MakeSender,
) -> None:
    """The checks of a scheduled start need the settings of the unsubscribe link and the footer."""
    resources = sender_resources(
        sender_engine,
        ses.url,
        PUBLIC_URL="https://mail.example.com",
        UNSUBSCRIBE_KEYS="k1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
        POSTAL_ADDRESS="1 Main Street, Springfield",
    )
    policy = {"sender_ids": [make_sender("ann", 1), make_sender("bob", 1)], "sending_schedule_id": make_schedule()}
    starts = {"start_type": "scheduled", "scheduled_start_at": MONDAY + HOUR}
    with engine.connect() as connection:
        campaign_id = make_campaign(connection, 5, [NO_DELAY, DAY], new_leads_per_day=3, **policy, **starts)
    assert lifecycle.start_campaign(engine, campaign_id).status == "scheduled"
    clock.move_to(MONDAY + HOUR)
    assert send_due_emails(resources, SECONDS).campaigns_started == 1
    assert len(ses.accepted()) == 2
    assert behind(engine, campaign_id) == {2: 3}


def test_cap_that_is_lifted_lets_all_steps_go(engine: sa.Engine, resources: Resources, clock: MovedClock) -> None:
    campaign_id = started(engine, 3)
    with engine.begin() as connection:
        campaigns.update(connection, campaign_id, {"new_leads_per_day": None})
    for _ in clock.ticks(MONDAY + HOUR, MONDAY + 4 * DAY, DAY / 2):
        send_due_emails(resources, SECONDS)
    assert statuses(engine, campaign_id) == {"sent": 9}
