"""A campaign with a sending schedule sends while it is open in the time zone of each lead, and at no other time."""

from __future__ import annotations

import datetime as dt
import uuid
from collections import Counter
from collections.abc import Mapping

import pytest
import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from sendledger.campaigns import late_emails, lifecycle, schedule_emails
from sendledger.core.tables import campaign_lanes, leads, scheduled_emails
from sendledger.core.time_zones import zone
from sendledger.ledger import claim_emails
from sendledger.policy import lane_queue, sending_schedules
from sendledger.policy.lanes import OpenZone, open_zones
from sendledger.preflight import diagnose
from sendledger.sending.tick import Resources, send_due_emails, send_scheduled_email
from testbed.campaigns import NO_DELAY, campaign_row, make_batch, make_campaign, make_template, rows_of, statuses
from testbed.moved_clock import MovedClock
from tests.policy.conftest import MakeSchedule

SECONDS = 60.0
HOUR = dt.timedelta(hours=1)
MONDAY = dt.datetime(2026, 7, 6, tzinfo=dt.UTC)
"""In Berlin it is 02:00, in Tokyo 09:00, and in New York still Sunday."""


def at(hours: float, days: int = 0) -> dt.datetime:
    """A time of UTC on the Monday, or days after it."""
    return MONDAY + dt.timedelta(days=days, hours=hours)


def started(
    engine: sa.Engine,
    schedule_id: uuid.UUID | None,
    places: Mapping[str, Mapping[str, str | None]],
    delays: list[dt.timedelta] | None = None,
) -> uuid.UUID:
    """A running campaign with one lead for each address, which has these fields."""
    with engine.begin() as connection:
        batches = [make_batch(connection, [address], **fields) for address, fields in places.items()]
    with engine.connect() as connection:
        campaign_id = make_campaign(connection, delays=delays, batch_ids=batches, sending_schedule_id=schedule_id)
    lifecycle.start_campaign(engine, campaign_id)
    return campaign_id


def recipients(ses: SesSimulator) -> list[str]:
    return sorted(mail.destination[0] for mail in ses.accepted())


PLACES: dict[str, dict[str, str | None]] = {
    "berlin@example.com": {"time_zone": "Europe/Berlin"},
    "tokyo@example.com": {"country": "Japan"},
    "york@example.com": {"time_zone": "America/New_York", "country": "Japan"},
    "nowhere@example.com": {"country": "US"},
}


@pytest.fixture
def office(make_schedule: MakeSchedule) -> uuid.UUID:
    return make_schedule()


def test_each_lead_gets_its_email_when_its_own_office_opens(
    clock: MovedClock, engine: sa.Engine, resources: Resources, ses: SesSimulator, office: uuid.UUID
) -> None:
    clock.move_to(at(-10))
    campaign_id = started(engine, office, PLACES)
    got: dict[str, dt.datetime] = {}
    for now in clock.ticks(at(-10), at(24), HOUR / 2):
        send_due_emails(resources, SECONDS)
        got |= {address: now for address in recipients(ses) if address not in got}
    assert got == {
        "tokyo@example.com": at(0),
        "berlin@example.com": at(7),
        "nowhere@example.com": at(7),
        "york@example.com": at(13),
    }
    assert campaign_row(engine, campaign_id)["status"] == "completed"


def test_the_zone_of_the_schedule_counts_for_all_if_it_says_so(
    clock: MovedClock, engine: sa.Engine, resources: Resources, ses: SesSimulator, make_schedule: MakeSchedule
) -> None:
    clock.move_to(at(6.9))
    started(engine, make_schedule(zone_of="schedule"), PLACES)
    assert send_due_emails(resources, SECONDS).claimed == 0
    clock.move_to(at(7))
    send_due_emails(resources, SECONDS)
    assert recipients(ses) == sorted(PLACES)


def test_opening_and_closing_change_no_row(
    clock: MovedClock, engine: sa.Engine, resources: Resources, office: uuid.UUID
) -> None:
    clock.move_to(at(20))
    campaign_id = started(engine, office, {"ann@example.com": {}})
    before = rows_of(engine, campaign_id)
    for _ in clock.ticks(at(20), at(31), HOUR):
        send_due_emails(resources, SECONDS)
        assert rows_of(engine, campaign_id) == before


def test_a_campaign_without_a_schedule_sends_at_any_time_beside_one_with(
    clock: MovedClock, engine: sa.Engine, resources: Resources, ses: SesSimulator, office: uuid.UUID
) -> None:
    clock.move_to(at(20))
    started(engine, office, {"ann@example.com": {}})
    started(engine, None, {"bob@example.com": {"time_zone": "Asia/Tokyo"}})
    send_due_emails(resources, SECONDS)
    assert recipients(ses) == ["bob@example.com"]
    clock.move_to(at(31))
    started(engine, None, {"eve@example.com": {}})
    send_due_emails(resources, SECONDS)
    assert recipients(ses) == ["ann@example.com", "bob@example.com", "eve@example.com"]


def test_a_tick_ends_at_once_where_all_that_is_due_waits_for_an_opening(
    clock: MovedClock, engine: sa.Engine, resources: Resources, office: uuid.UUID
) -> None:
    clock.move_to(at(20))
    started(engine, office, {"ann@example.com": {}})
    with engine.connect() as connection:
        assert claim_emails.count_due(connection, 10) == 0
    clock.move_to(at(31))
    with engine.connect() as connection:
        assert claim_emails.count_due(connection, 10) == 1


def test_a_changed_schedule_counts_at_the_next_claim_without_a_change_of_any_row(
    clock: MovedClock, engine: sa.Engine, resources: Resources, ses: SesSimulator, office: uuid.UUID
) -> None:
    clock.move_to(at(20))
    campaign_id = started(engine, office, {"ann@example.com": {}})
    before = rows_of(engine, campaign_id)
    with engine.begin() as connection:
        sending_schedules.update(connection, office, {"hours": {"mon": [["21:00", "24:00"]]}})
    assert rows_of(engine, campaign_id) == before
    send_due_emails(resources, SECONDS)
    assert recipients(ses) == ["ann@example.com"]


def test_a_schedule_that_changes_between_its_reading_and_the_claim_is_closed(
    clock: MovedClock, engine: sa.Engine, office: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.move_to(at(8))
    started(engine, office, {"ann@example.com": {}})

    def read_and_change(connection: sa.Connection) -> list[OpenZone]:
        zones = open_zones(connection)
        with engine.begin() as other:
            sending_schedules.update(other, office, {"holidays": [MONDAY.date()]})
        return zones

    monkeypatch.setattr(lane_queue, "open_zones", read_and_change)
    with engine.begin() as connection:
        assert claim_emails.claim(connection, 10, uuid.uuid4()) == []


def test_what_was_claimed_before_the_end_does_not_pass_the_fence_after_it(
    clock: MovedClock, engine: sa.Engine, resources: Resources, ses: SesSimulator, office: uuid.UUID
) -> None:
    clock.move_to(at(9.9))
    campaign_id = started(engine, office, {"ann@example.com": {}, "bob@example.com": {}})
    token = uuid.uuid4()
    with engine.begin() as connection:
        claimed = claim_emails.claim(connection, 10, token)
    assert len(claimed) == 2
    # Lunch.
    clock.move_to(at(10))
    with engine.begin() as connection:
        fenced = claim_emails.fence(connection, claimed, token)
    assert (fenced.sendable, fenced.turned_away) == ({}, {})
    send_due_emails(resources, SECONDS)
    assert statuses(engine, campaign_id) == {"pending": 2}
    clock.move_to(at(11))
    send_due_emails(resources, SECONDS)
    assert recipients(ses) == ["ann@example.com", "bob@example.com"]


def test_nothing_is_claimed_in_the_last_moment_of_an_opening(
    clock: MovedClock, engine: sa.Engine, office: uuid.UUID
) -> None:
    clock.move_to(at(8))
    started(engine, office, {"ann@example.com": {}})
    clock.move_to(at(10) - dt.timedelta(seconds=1))
    with engine.begin() as connection:
        assert claim_emails.claim(connection, 10, uuid.uuid4()) == []
        assert claim_emails.count_due(connection, 10) == 0


def test_nothing_is_sent_on_a_holiday(
    clock: MovedClock, engine: sa.Engine, resources: Resources, ses: SesSimulator, make_schedule: MakeSchedule
) -> None:
    clock.move_to(at(0))
    started(engine, make_schedule(holidays=[MONDAY.date()]), {"ann@example.com": {}})
    for _ in clock.ticks(at(0), at(30), HOUR):
        send_due_emails(resources, SECONDS)
    assert recipients(ses) == []
    clock.move_to(at(31))
    send_due_emails(resources, SECONDS)
    assert recipients(ses) == ["ann@example.com"]


def test_steps_of_a_workflow_keep_the_hours_through_a_pause_and_a_week(
    clock: MovedClock, engine: sa.Engine, resources: Resources, ses: SesSimulator, office: uuid.UUID
) -> None:
    clock.move_to(at(-2))
    campaign_id = started(engine, office, PLACES, [NO_DELAY, 2 * 24 * HOUR, 3 * 24 * HOUR])
    zones = {"york@example.com": "America/New_York", "tokyo@example.com": "Asia/Tokyo"}
    sent = 0
    for now in clock.ticks(at(-2), at(24 * 10), HOUR):
        if now == at(26):
            lifecycle.pause_campaign(engine, campaign_id)
        if now == at(53):
            lifecycle.resume_campaign(engine, campaign_id)
        send_due_emails(resources, SECONDS)
        mails = ses.accepted()
        for mail in mails[sent:]:
            local = now.astimezone(zone(zones.get(mail.destination[0], "Europe/Berlin")))
            assert local.weekday() < 5
            assert local.hour in (9, 10, 11, 13, 14, 15, 16)
        sent = len(mails)
    assert Counter(recipients(ses)) == dict.fromkeys(PLACES, 3)
    assert campaign_row(engine, campaign_id)["status"] == "completed"


def test_send_now_goes_out_while_the_schedule_is_closed(
    clock: MovedClock, engine: sa.Engine, resources: Resources, ses: SesSimulator, office: uuid.UUID
) -> None:
    clock.move_to(at(20))
    campaign_id = started(engine, office, {"ann@example.com": {}})
    (row,) = rows_of(engine, campaign_id)
    send_scheduled_email(resources, row["id"])
    assert recipients(ses) == ["ann@example.com"]


def test_an_email_that_is_added_to_a_running_campaign_waits_for_the_hours_of_its_lead(
    clock: MovedClock, engine: sa.Engine, resources: Resources, ses: SesSimulator, office: uuid.UUID
) -> None:
    clock.move_to(at(8))
    campaign_id = started(engine, office, {"ann@example.com": {}})
    with engine.begin() as connection:
        make_batch(connection, ["york@example.com"], time_zone="America/New_York")
        lead_id = connection.scalar(sa.select(leads.c.id).where(leads.c.email == "york@example.com"))
        template_id = connection.scalar(sa.text("SELECT id FROM email_templates")) or make_template(connection)
        assert lead_id is not None
        schedule_emails.schedule_email_for_lead(connection, campaign_id, lead_id, template_id, NO_DELAY)
    send_due_emails(resources, SECONDS)
    assert recipients(ses) == ["ann@example.com"]
    clock.move_to(at(13))
    send_due_emails(resources, SECONDS)
    assert recipients(ses) == ["ann@example.com", "york@example.com"]


def test_a_large_campaign_gets_the_same_lanes_bucket_by_bucket(
    clock: MovedClock,
    engine: sa.Engine,
    resources: Resources,
    ses: SesSimulator,
    office: uuid.UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(schedule_emails, "ROWS_PER_BUCKET", 1)
    clock.move_to(at(-10))
    campaign_id = started(engine, office, PLACES)
    send_due_emails(resources, SECONDS)
    assert (campaign_row(engine, campaign_id)["background_work"], statuses(engine, campaign_id)) == ([], {"pending": 4})
    with engine.connect() as connection:
        waiting = sa.select(campaign_lanes.c.time_zone, sa.func.count()).join_from(
            scheduled_emails,
            campaign_lanes,
            (campaign_lanes.c.campaign_id == scheduled_emails.c.campaign_id)
            & (campaign_lanes.c.lane == scheduled_emails.c.lane),
        )
        rows = connection.execute(waiting.group_by(campaign_lanes.c.time_zone)).all()
        lanes: dict[str | None, int] = {name: count for name, count in rows}  # noqa: C416 (typed)
    assert lanes == {"Europe/Berlin": 1, "Asia/Tokyo": 1, "America/New_York": 1, None: 1}


def test_leads_with_no_country_and_an_empty_one_get_one_email_each(
    clock: MovedClock, engine: sa.Engine, office: uuid.UUID
) -> None:
    clock.move_to(at(-10))
    places: dict[str, dict[str, str | None]] = {
        "ann@example.com": {"time_zone": "Europe/Berlin", "country": ""},
        "bob@example.com": {"time_zone": "Europe/Berlin", "country": None},
        "eve@example.com": {"time_zone": "", "country": "Japan"},
        "kim@example.com": {"time_zone": None, "country": "Japan"},
    }
    assert statuses(engine, started(engine, office, places)) == {"pending": 4}


def test_a_zone_that_this_version_does_not_know_is_closed(
    clock: MovedClock, engine: sa.Engine, resources: Resources, ses: SesSimulator, office: uuid.UUID
) -> None:
    clock.move_to(at(8))
    started(engine, office, {"ann@example.com": {"time_zone": "Mars/Olympus"}, "bob@example.com": {}})
    send_due_emails(resources, SECONDS)
    assert recipients(ses) == ["bob@example.com"]


def test_diagnose_says_when_the_schedule_opens_in_each_time_zone(
    clock: MovedClock, engine: sa.Engine, resources: Resources, office: uuid.UUID
) -> None:
    clock.move_to(at(11, days=-1))
    campaign_id = started(engine, office, PLACES)
    send_due_emails(resources, SECONDS)
    with engine.connect() as connection:
        found = diagnose.diagnose(connection, campaign_id, "test")
    assert (found.cause, found.next_send_at, found.detail["due"]) == ("window_closed", at(0), 4)
    assert found.detail["next_openings"] == {
        "America/New_York": "2026-07-06T13:00:00+00:00",
        "Asia/Tokyo": "2026-07-06T00:00:00+00:00",
        "Europe/Berlin": "2026-07-06T07:00:00+00:00",
    }
    for _ in clock.ticks(at(-13), at(8), 4 * HOUR):
        send_due_emails(resources, SECONDS)
    with engine.connect() as connection:
        later = diagnose.diagnose(connection, campaign_id, "test")
    assert (later.cause, later.next_send_at) == ("window_closed", at(13))


def test_diagnose_of_what_is_due_at_night_tells_the_opening_after_it(
    clock: MovedClock, engine: sa.Engine, resources: Resources, office: uuid.UUID
) -> None:
    clock.move_to(at(8))
    campaign_id = started(engine, office, {"ann@example.com": {}}, [NO_DELAY, 12 * HOUR])
    send_due_emails(resources, SECONDS)
    with engine.connect() as connection:
        found = diagnose.diagnose(connection, campaign_id, "test")
    assert (found.cause, found.next_send_at) == ("not_due", at(31))


def test_an_email_that_waits_for_its_opening_is_not_overdue(
    clock: MovedClock, engine: sa.Engine, office: uuid.UUID
) -> None:
    clock.move_to(at(20))
    started(engine, office, {"ann@example.com": {}})
    clock.move_to(at(30.9))
    with engine.connect() as connection:
        assert diagnose.oldest_due_seconds(connection) == 0
    clock.move_to(at(31.5))
    with engine.connect() as connection:
        assert 1800 <= diagnose.oldest_due_seconds(connection) < 1900


@pytest.mark.parametrize(("outage", "held"), [((17, 31.5), 0), ((7, 11), 0), ((7, 16), 1), ((13, 36), 1)], ids=str)
def test_the_late_guard_counts_open_time_only(
    clock: MovedClock, engine: sa.Engine, office: uuid.UUID, outage: tuple[float, float], held: int
) -> None:
    """Office hours in Berlin are from 7 to 15 UTC, with an hour for lunch."""
    start, end = outage
    clock.move_to(at(start) - dt.timedelta(minutes=1))
    started(engine, office, {"ann@example.com": {}})
    with engine.begin() as connection:
        late_emails.hold_after_outage(connection, 6 * HOUR)
    clock.move_to(at(end))
    with engine.begin() as connection:
        assert late_emails.hold_after_outage(connection, 6 * HOUR) == held
