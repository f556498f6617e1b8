"""The late guard in campaigns with a sending policy: what waits for an opening or a cap in an outage is not late."""

from __future__ import annotations

import datetime as dt
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from sendledger.campaigns import campaigns, late_emails, lifecycle, reassign_leads
from sendledger.campaigns.campaigns import get_campaign, list_page
from sendledger.core.errors import Conflict
from sendledger.core.tables import campaigns as campaigns_table
from sendledger.policy import sender_addresses
from sendledger.preflight import diagnose
from sendledger.sending.tick import Resources, send_due_emails
from sendledger.sending.tick_summary import TickSummary
from testbed.campaigns import DAY, NO_DELAY, make_campaign, rows_of, statuses
from testbed.invariants import assert_ledger_is_consistent, wait_for
from testbed.moved_clock import MovedClock
from testbed.senders import sender_resources
from tests.policy.conftest import MONDAY, MakeSchedule, MakeSender

SECONDS = 60.0
HOUR = dt.timedelta(hours=1)
MINUTE = dt.timedelta(minutes=1)


@pytest.fixture(autouse=True)
def monday(clock: MovedClock) -> None:
    """It is Monday noon, UTC; 14 o'clock in Berlin."""
    clock.move_to(MONDAY)


@pytest.fixture
def resources(sender_engine: sa.Engine, ses: SesSimulator) -> Resources:
    """A sender that takes more than six hours for an outage."""
    return sender_resources(sender_engine, ses.url, LATE_AFTER_MINUTES="360")


def started(
    engine: sa.Engine, leads: int | list[str], delays: list[dt.timedelta] | None = None, **policy: Any
) -> uuid.UUID:
    with engine.connect() as connection:
        campaign_id = make_campaign(connection, leads, delays or [NO_DELAY], **policy)
    lifecycle.start_campaign(engine, campaign_id)
    return campaign_id


def cap(kind: str, make_sender: MakeSender, of_company: int = 2) -> dict[str, Any]:
    """A cap of two emails a day for a campaign."""
    if kind == "sender":
        return {"sender_ids": [make_sender("ann", 2)]}
    return {"new_leads_per_company_per_day": of_company} if kind == "company" else {"new_leads_per_day": 2}


def tick_after(clock: MovedClock, resources: Resources, hours: float) -> TickSummary:
    """A tick so long after Monday noon."""
    clock.move_to(MONDAY + hours * HOUR + MINUTE)
    return send_due_emails(resources, SECONDS)


def steps(engine: sa.Engine, campaign_id: uuid.UUID, status: str) -> Counter[int]:
    return Counter(row["workflow_step_number"] for row in rows_of(engine, campaign_id) if row["status"] == status)


def held(engine: sa.Engine, campaign_id: uuid.UUID) -> int:
    with engine.connect() as connection:
        found = diagnose.diagnose(connection, campaign_id, "test")
    return int(found.detail.get("held", 0))


@pytest.mark.parametrize(("outage", "late"), [((3.5, 21), False), ((99.5, 165), False), ((99.5, 171), True)], ids=str)
def test_night_and_weekend_are_no_outage(
    clock: MovedClock,
    engine: sa.Engine,
    resources: Resources,
    make_schedule: MakeSchedule,
    outage: tuple[float, float],
    late: bool,
) -> None:
    """From Monday afternoon to the next morning; from Friday afternoon to Monday morning, and to Monday afternoon."""
    begins, ends = outage
    tick_after(clock, resources, begins)
    campaign_id = started(engine, 2, sending_schedule_id=make_schedule())
    summary = tick_after(clock, resources, ends)
    assert (summary.campaigns_held, summary.sent) == ((1, 0) if late else (0, 2))
    assert held(engine, campaign_id) == (2 if late else 0)


def test_open_time_of_each_email_counts(
    clock: MovedClock, engine: sa.Engine, resources: Resources, make_schedule: MakeSchedule
) -> None:
    """A night lies between the two steps and the end of the outage, six open hours after the first one only."""
    tick_after(clock, resources, 0)
    schedule = make_schedule(hours={day: [["09:00", "17:00"]] for day in ("mon", "tue", "wed")})
    early, late = (
        started(engine, 1, sending_schedule_id=schedule),
        started(engine, 1, [NO_DELAY], sending_schedule_id=schedule),
    )
    with engine.begin() as connection:
        move = sa.text("UPDATE scheduled_emails SET scheduled_for = :at WHERE campaign_id = :id")
        connection.execute(move, {"at": MONDAY + HOUR, "id": early})
        connection.execute(move, {"at": MONDAY + 2.5 * HOUR, "id": late})
    # At half past 13 in Berlin it has been open for four and a half hours that day, and for three on Monday.
    assert tick_after(clock, resources, 23.5).campaigns_held == 1
    assert (held(engine, early), statuses(engine, late)) == (1, {"sent": 1})


@pytest.mark.parametrize("policy", ["new leads", "sender", "company"])
def test_backlog_of_days_that_waits_for_a_cap_is_not_late(
    clock: MovedClock,
    engine: sa.Engine,
    resources: Resources,
    ses: SesSimulator,
    make_sender: MakeSender,
    policy: str,
) -> None:
    campaign_id = started(engine, [f"lead{n}@acme.example" for n in range(9)], **cap(policy, make_sender))
    assert [tick_after(clock, resources, hours).sent for hours in (0, 2, 50)] == [2, 0, 2]
    with engine.connect() as connection:
        assert get_campaign(connection, campaign_id)["late_hold_until"] is None
    assert sum(tick_after(clock, resources, hours).sent for hours in range(55, 120, 5)) == 5
    assert_ledger_is_consistent(engine, ses)


@pytest.mark.parametrize("policy", ["new leads", "sender", "company"])
def test_what_the_caps_had_room_for_is_late(
    clock: MovedClock, engine: sa.Engine, resources: Resources, make_sender: MakeSender, policy: str
) -> None:
    tick_after(clock, resources, 0)
    campaign_id = started(engine, 4, **cap(policy, make_sender, of_company=1))
    assert tick_after(clock, resources, 48 if policy != "company" else 144).campaigns_held == 1
    assert held(engine, campaign_id) == 4


@pytest.mark.parametrize("action", ["send", "skip"])
@pytest.mark.parametrize("policy", ["new leads", "sender"])
def test_follow_up_is_late_beside_first_steps_that_wait_for_a_cap(
    clock: MovedClock,
    engine: sa.Engine,
    resources: Resources,
    ses: SesSimulator,
    make_sender: MakeSender,
    policy: str,
    action: str,
) -> None:
    campaign_id = started(engine, 5, [NO_DELAY, DAY], **cap(policy, make_sender))
    assert tick_after(clock, resources, 0).sent == 2
    summary = tick_after(clock, resources, 31)
    assert (summary.campaigns_held, summary.sent) == (1, 2)
    assert steps(engine, campaign_id, "sent") == {1: 4}
    assert held(engine, campaign_id) == 2
    late_emails.decide_late_emails(engine, campaign_id, action, "ann")
    with pytest.raises(Conflict):
        late_emails.decide_late_emails(engine, campaign_id, action, "ann")
    # Only what is late has ended. The first steps, and the later ones behind them, go on waiting.
    assert steps(engine, campaign_id, "skipped") == ({2: 2} if action == "skip" else {})
    assert steps(engine, campaign_id, "pending") == ({1: 1, 2: 5} if action == "send" else {1: 1, 2: 3})
    for hours in (32, 37, 42):
        tick_after(clock, resources, hours)
    received = Counter(mail.destination[0] for mail in ses.accepted())
    assert Counter(received.values())[2] == (2 if action == "send" else 0)
    assert_ledger_is_consistent(engine, ses)


def test_cap_that_was_used_up_left_nothing_for_the_rest_of_its_day(
    clock: MovedClock, engine: sa.Engine, resources: Resources, make_sender: MakeSender
) -> None:
    """Days are those of UTC."""
    started(engine, 3, sender_ids=[make_sender("ann", 2)])
    assert tick_after(clock, resources, 0).sent == 2
    # Five hours into the next day.
    summary = tick_after(clock, resources, 17)
    assert (summary.campaigns_held, summary.sent) == (0, 1)


def test_email_that_a_spread_cap_releases_later_is_not_late(
    clock: MovedClock, engine: sa.Engine, resources: Resources, make_sender: MakeSender
) -> None:
    tick_after(clock, resources, 12)
    started(engine, 2, sender_ids=[make_sender("ann", 2, spread=True)])
    clock.move_to(MONDAY + 12 * HOUR + 2 * MINUTE)
    assert tick_after(clock, resources, 12.1).sent == 1
    assert tick_after(clock, resources, 21).campaigns_held == 0


def test_sender_that_is_disabled_holds_nothing_up(
    clock: MovedClock, engine: sa.Engine, resources: Resources, make_sender: MakeSender
) -> None:
    ann = make_sender("ann")
    tick_after(clock, resources, 0)
    started(engine, 3, sender_ids=[ann])
    with engine.begin() as connection:
        sender_addresses.update(connection, ann, {"status": "disabled"})
    assert tick_after(clock, resources, 30).campaigns_held == 0
    with engine.begin() as connection:
        sender_addresses.update(connection, ann, {"status": "active"})
    assert tick_after(clock, resources, 30.5).sent == 3


def test_skip_ends_the_steps_that_were_overdue_after_it_too(
    clock: MovedClock, engine: sa.Engine, resources: Resources
) -> None:
    campaign_id = started(engine, 4, [NO_DELAY, HOUR, HOUR, 5 * DAY], new_leads_per_day=1)
    assert tick_after(clock, resources, 0).sent == 1
    assert tick_after(clock, resources, 48).campaigns_held == 1
    late_emails.decide_late_emails(engine, campaign_id, "skip", "ann")
    assert steps(engine, campaign_id, "skipped") == {2: 1, 3: 1}


def test_emails_that_are_held_already_take_nothing_of_a_cap(
    clock: MovedClock, engine: sa.Engine, resources: Resources, make_sender: MakeSender
) -> None:
    """Nobody has decided about those of the first outage when a second one begins."""
    ann = make_sender("ann", 2)
    tick_after(clock, resources, 0)
    first = started(engine, 4, sender_ids=[ann])
    assert tick_after(clock, resources, 48).campaigns_held == 1
    second = started(engine, 1, sender_ids=[ann])
    summary = tick_after(clock, resources, 72)
    assert (summary.campaigns_held, summary.sent) == (1, 0)
    assert (held(engine, first), held(engine, second)) == (4, 1)


def test_late_campaigns_are_locked_in_the_order_of_ids(
    clock: MovedClock, engine: sa.Engine, connection: sa.Connection, resources: Resources
) -> None:
    """With lanes and without: what SES reports after the outage is recorded beside it."""
    tick_after(clock, resources, 0)
    low, high = started(engine, 1, new_leads_per_day=1), started(engine, 1)
    while high < low:
        high = started(engine, 1)
    clock.move_to(MONDAY + DAY)
    lock = sa.select(campaigns_table.c.id).with_for_update(nowait=True)
    with engine.connect() as holder, ThreadPoolExecutor(1) as pool:
        holder.execute(lock.where(campaigns_table.c.id == low))
        ticking = pool.submit(send_due_emails, resources, SECONDS)
        blocked = sa.text("""
            SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
        """)

        def is_waiting() -> bool:
            connection.rollback()
            return bool(connection.scalar(blocked))

        try:
            wait_for(is_waiting, "the tick waits for the lower campaign")
            assert holder.scalar(lock.where(campaigns_table.c.id == high)) == high
        finally:
            holder.rollback()
        assert ticking.result().campaigns_held >= 2


def test_skip_ends_the_steps_that_were_overdue_behind_a_first_one(
    clock: MovedClock, engine: sa.Engine, resources: Resources
) -> None:
    """The lane of later steps is not held: when the outage ended, they were behind and in no lane."""
    tick_after(clock, resources, 0)
    campaign_id = started(engine, 2, [NO_DELAY, HOUR, 5 * DAY], new_leads_per_day=2)
    assert tick_after(clock, resources, 48).campaigns_held == 1
    late_emails.decide_late_emails(engine, campaign_id, "skip", "ann")
    assert steps(engine, campaign_id, "skipped") == {1: 2, 2: 2}
    assert tick_after(clock, resources, 48.1).sent == 0
    assert steps(engine, campaign_id, "pending") == {3: 2}


@pytest.mark.parametrize(("action", "moved"), [("send", 2), ("skip", 0)])
def test_leads_of_a_lane_that_is_held_are_reassigned_when_the_decision_is_carried_out(
    clock: MovedClock, engine: sa.Engine, resources: Resources, make_sender: MakeSender, action: str, moved: int
) -> None:
    """In the lane of the other sender they would go out before anybody has decided, and the rest not be skipped."""
    ann, bob = make_sender("ann"), make_sender("bob")
    tick_after(clock, resources, 0)
    campaign_id = started(engine, 2, sender_ids=[ann])
    assert tick_after(clock, resources, 24).campaigns_held == 1

    def assert_nobody_is_reassigned() -> None:
        with engine.begin() as connection, pytest.raises(Conflict) as refused:
            reassign_leads.reassign(connection, ann, bob, "ann")
        assert refused.value.data == {"campaign_ids": [str(campaign_id)]}

    assert_nobody_is_reassigned()
    lifecycle.pause_campaign(engine, campaign_id, rows_at_once=False)
    late_emails.decide_late_emails(engine, campaign_id, action, "ann")
    assert_nobody_is_reassigned()
    tick_after(clock, resources, 24.1)
    with engine.begin() as connection:
        assert reassign_leads.reassign(connection, ann, bob, "ann").leads_moved == moved


@pytest.mark.parametrize("action", ["send", "skip"])
def test_late_emails_of_a_paused_campaign_are_decided_and_its_leads_reassigned(
    clock: MovedClock, engine: sa.Engine, resources: Resources, make_sender: MakeSender, action: str
) -> None:
    """The second step is late behind the first one, the third one is not."""
    ann, bob = make_sender("ann"), make_sender("bob")
    tick_after(clock, resources, 0)
    campaign_id = started(engine, 2, [NO_DELAY, HOUR, 5 * DAY], sender_ids=[ann])
    assert tick_after(clock, resources, 24).campaigns_held == 1
    lifecycle.pause_campaign(engine, campaign_id)
    late_emails.decide_late_emails(engine, campaign_id, action, "ann")
    assert steps(engine, campaign_id, "skipped") == ({1: 2, 2: 2} if action == "skip" else {})
    with engine.begin() as connection:
        assert reassign_leads.reassign(connection, ann, bob, "ann").leads_moved == 2
    clock.move_to(MONDAY + 2 * DAY)
    lifecycle.resume_campaign(engine, campaign_id)
    tick_after(clock, resources, 48)
    assert steps(engine, campaign_id, "sent") == ({1: 2} if action == "send" else {})
    with engine.connect() as connection:
        senders = set(connection.scalars(sa.text("SELECT sender_id FROM scheduled_emails WHERE status = 'sent'")))
    assert senders == ({bob} if action == "send" else set())


def test_campaign_does_not_lose_its_last_cap_while_a_lane_of_it_is_held(
    clock: MovedClock, engine: sa.Engine, resources: Resources
) -> None:
    """Without a policy no claim would look at the lane, and what it holds would go out."""
    tick_after(clock, resources, 0)
    campaign_id = started(engine, 2, new_leads_per_day=2)
    assert tick_after(clock, resources, 24).campaigns_held == 1
    with engine.begin() as connection, pytest.raises(Conflict):
        campaigns.update(connection, campaign_id, {"new_leads_per_day": None})
    with engine.begin() as connection:
        campaigns.update(connection, campaign_id, {"new_leads_per_day": 5})
    late_emails.decide_late_emails(engine, campaign_id, "skip", "ann")
    with engine.begin() as connection:
        campaigns.update(connection, campaign_id, {"new_leads_per_day": None})
    assert statuses(engine, campaign_id) == {"skipped": 2}


def test_what_is_held_stays_held_over_a_pause(clock: MovedClock, engine: sa.Engine, resources: Resources) -> None:
    campaign_id = started(engine, 3, [NO_DELAY, HOUR], new_leads_per_day=1)
    assert tick_after(clock, resources, 0).sent == 1
    assert tick_after(clock, resources, 24).campaigns_held == 1
    lifecycle.pause_campaign(engine, campaign_id)
    # No second outage, which would hold them anew.
    assert [tick_after(clock, resources, hours).campaigns_held for hours in (29, 34, 39, 44)] == [0] * 4
    clock.move_to(MONDAY + 2 * DAY)
    lifecycle.resume_campaign(engine, campaign_id)
    assert tick_after(clock, resources, 48.5).campaigns_held == 0
    assert steps(engine, campaign_id, "sent")[2] == 0
    late_emails.decide_late_emails(engine, campaign_id, "send", "ann")
    tick_after(clock, resources, 48.6)
    assert steps(engine, campaign_id, "sent")[2] == 1


def test_campaign_shows_that_a_lane_of_it_is_held(clock: MovedClock, engine: sa.Engine, resources: Resources) -> None:
    tick_after(clock, resources, 0)
    campaign_id = started(engine, 1, new_leads_per_day=1)
    tick_after(clock, resources, 24)
    with engine.connect() as connection:
        shown = get_campaign(connection, campaign_id)["late_hold_until"]
        (listed,) = list_page(connection, 10, None).items
    assert shown == listed["late_hold_until"]
    assert MONDAY + 18 * HOUR <= shown <= MONDAY + 18 * HOUR + 2 * MINUTE


def test_whole_campaign_is_held_after_a_restore(
    clock: MovedClock, engine: sa.Engine, resources: Resources, make_schedule: MakeSchedule, make_sender: MakeSender
) -> None:
    """As docs/operations/restore.md says."""
    campaign_id = started(engine, 4, sending_schedule_id=make_schedule(), sender_ids=[make_sender("ann", 2)])
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE campaigns SET late_hold_until = now() WHERE status = 'running'"))
    assert tick_after(clock, resources, 0).sent == 0
    assert held(engine, campaign_id) == 4
    late_emails.decide_late_emails(engine, campaign_id, "skip", "ann")
    assert statuses(engine, campaign_id) == {"skipped": 4}
