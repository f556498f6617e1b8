"""Steps that wait for business days go out after so many days on which the schedule is open for the lead."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from hypothesis import given, settings

from local.ses_simulator import SesSimulator
from sendledger.campaigns import lifecycle
from sendledger.core.errors import Conflict, InvalidInput
from sendledger.core.tables import workflow_steps
from sendledger.ledger import claim_emails, scheduled_emails
from sendledger.policy.openings import Hours, business_days_after, openings_of
from sendledger.sending.tick import Resources, send_due_emails
from testbed.campaigns import campaign_row, make_batch, make_campaign, make_variants, make_workflow, rows_of
from testbed.moved_clock import MovedClock
from tests.policy.conftest import MakeSchedule
from tests.policy.test_openings import BERLIN, INSTANTS, OFFICE, ZONES, every_day, some_hours, utc

SECONDS = 60.0
HOUR = dt.timedelta(hours=1)
FRIDAY = dt.datetime(2026, 7, 3, 8, tzinfo=dt.UTC)
"""In Berlin it is 10:00, in Tokyo 17:00: the office there has just closed."""


@pytest.mark.parametrize(
    ("instant", "days", "then"),
    [
        ("2026-07-03T08:00", 1, "2026-07-06T08:00"),
        ("2026-07-03T08:00", 5, "2026-07-10T08:00"),
        ("2026-07-04T20:30", 1, "2026-07-06T20:30"),
        ("2026-07-03T08:00", 0, "2026-07-03T08:00"),
        # The clock is put forward on the Sunday between, and back.
        ("2026-03-27T08:00", 1, "2026-03-30T07:00"),
        ("2026-10-23T08:00", 1, "2026-10-26T09:00"),
    ],
)
def test_business_days_leave_out_the_weekend_and_keep_the_local_time(instant: str, days: int, then: str) -> None:
    assert business_days_after(OFFICE, BERLIN, utc(instant), days) == utc(then)


def test_a_holiday_is_no_business_day() -> None:
    hours = Hours(OFFICE.week, frozenset({dt.date(2026, 7, 6)}))
    assert business_days_after(hours, BERLIN, FRIDAY, 1) == utc("2026-07-07T08:00")


def test_a_local_time_that_does_not_exist_becomes_the_first_that_does() -> None:
    assert business_days_after(every_day(0, 1440), BERLIN, utc("2026-03-28T01:30"), 1) == utc("2026-03-29T01:00")


def test_a_local_time_that_happens_twice_is_the_first() -> None:
    assert business_days_after(every_day(0, 1440), BERLIN, utc("2026-10-24T00:30"), 1) == utc("2026-10-25T00:30")


@pytest.mark.parametrize(
    ("days", "then"), [(154, "2027-03-28T01:00"), (371, "2027-10-31T00:30")], ids=["gap", "happens twice"]
)
def test_the_second_of_two_equal_local_times_counts_like_the_first(days: int, then: str) -> None:
    assert business_days_after(every_day(0, 1440), BERLIN, utc("2026-10-25T01:30"), days) == utc(then)


def test_days_of_a_schedule_that_never_opens_end() -> None:
    assert business_days_after(Hours(((),) * 7), BERLIN, FRIDAY, 2) > FRIDAY + dt.timedelta(days=400)


@settings(max_examples=200, deadline=None)
@given(hours=some_hours(), tz=ZONES, instant=INSTANTS)
def test_the_third_business_day_is_the_third_date_with_an_opening(
    hours: Hours, tz: ZoneInfo, instant: dt.datetime
) -> None:
    before, after = instant.astimezone(tz), business_days_after(hours, tz, instant, 3).astimezone(tz)
    dates = [before.date() + dt.timedelta(days=day) for day in range(1, (after.date() - before.date()).days + 1)]
    is_open = [bool(openings_of(hours, tz, date)) for date in dates]
    if any(hours.week):
        assert (sum(is_open), is_open[-1]) == (3, True)
    # Where the clock is put forward over this time, the first that exists counts.
    assert after.time() >= before.time()
    assert (after - dt.timedelta(minutes=1)).utcoffset() != after.utcoffset() or after.time() == before.time()


@pytest.fixture
def office(make_schedule: MakeSchedule) -> uuid.UUID:
    return make_schedule()


def started(
    engine: sa.Engine,
    schedule_id: uuid.UUID | None,
    places: Mapping[str, Mapping[str, str | None]],
    days: Sequence[int],
    winner: Mapping[str, Any] | None = None,
) -> uuid.UUID:
    """A running campaign: the first step at once, each further one after so many business days.

    With a `winner` the last step has two variants.
    """
    with engine.begin() as connection:
        batches = [make_batch(connection, [address], **fields) for address, fields in places.items()]
        workflow_id = make_workflow(connection, [dt.timedelta(0)] * (len(days) + 1))
        for number, value in enumerate(days, 2):
            of_step = (workflow_steps.c.workflow_id == workflow_id) & (workflow_steps.c.step_number == number)
            in_days = {"delay": None, "days_after_previous": value, "business_days": True}
            connection.execute(sa.update(workflow_steps).where(of_step).values(in_days))
        if winner is not None:
            make_variants(connection, workflow_id, (1, 1), step=len(days) + 1)
            connection.execute(sa.update(workflow_steps).where(of_step).values(winner=winner))
    with engine.connect() as connection:
        campaign_id = make_campaign(
            connection, batch_ids=batches, workflow_id=workflow_id, sending_schedule_id=schedule_id
        )
    lifecycle.start_campaign(engine, campaign_id)
    return campaign_id


def due_times(engine: sa.Engine, campaign_id: uuid.UUID) -> list[str]:
    """When each step is due, to the minute."""
    rows = sorted(rows_of(engine, campaign_id), key=lambda row: (row["workflow_step_number"], row["scheduled_for"]))
    return [row["scheduled_for"].strftime("%a %d %H:%M") for row in rows]


def test_a_start_counts_the_open_days_in_the_zone_of_each_lead(
    clock: MovedClock, engine: sa.Engine, make_schedule: MakeSchedule
) -> None:
    # On Friday 20:00 UTC it is Saturday in Tokyo.
    clock.move_to(FRIDAY + 12 * HOUR)
    schedule_id = make_schedule(hours={day: [["09:00", "17:00"]] for day in ("mon", "tue", "wed", "thu", "fri", "sat")})
    places: dict[str, dict[str, str | None]] = {
        "berlin@example.com": {"time_zone": "Europe/Berlin"},
        "tokyo@example.com": {"country": "Japan"},
        "nowhere@example.com": {},
    }
    campaign_id = started(engine, schedule_id, places, [1, 2])
    assert due_times(engine, campaign_id) == [
        *["Fri 03 20:00"] * 3,
        # For Berlin, and for the lead without a zone, Saturday is the next open day; for Tokyo it is Monday.
        *["Sat 04 20:00"] * 2,
        "Sun 05 20:00",
        *["Tue 07 20:00"] * 3,
    ]


def test_a_winner_is_decided_after_the_open_days_of_its_step(
    clock: MovedClock, engine: sa.Engine, office: uuid.UUID
) -> None:
    clock.move_to(FRIDAY)
    winner = {"by": "replied", "test_share": 50, "after_seconds": 4 * 3600}
    places: dict[str, dict[str, str | None]] = {f"lead{number}@example.com": {} for number in range(4)}
    campaign_id = started(engine, office, places, [1], winner)
    assert due_times(engine, campaign_id) == [
        *["Fri 03 08:00"] * 4,
        *["Mon 06 08:00"] * 2,
        *["Mon 06 12:00"] * 2,
    ]
    assert f"{campaign_row(engine, campaign_id)['winner_at']:%a %d %H:%M}" == "Mon 06 12:00"


def test_each_step_goes_out_so_many_open_days_after_the_one_before(
    clock: MovedClock, engine: sa.Engine, resources: Resources, ses: SesSimulator, office: uuid.UUID
) -> None:
    clock.move_to(FRIDAY)
    started(engine, office, {"ann@example.com": {}}, [1, 3])
    sent: list[dt.datetime] = []
    for now in clock.ticks(FRIDAY, FRIDAY + dt.timedelta(days=7), HOUR):
        send_due_emails(resources, SECONDS)
        sent += [now] * (len(ses.accepted()) - len(sent))
    assert [f"{moment:%a}" for moment in sent] == ["Fri", "Mon", "Thu"]


def test_a_step_that_goes_out_late_moves_the_next_by_open_days(
    clock: MovedClock, engine: sa.Engine, resources: Resources, office: uuid.UUID
) -> None:
    clock.move_to(FRIDAY)
    campaign_id = started(engine, office, {"ann@example.com": {}}, [1, 1])
    # The first goes out three hours late, on Friday; then everything stands still until Tuesday noon.
    clock.move_to(FRIDAY + 3 * HOUR)
    send_due_emails(resources, SECONDS)
    assert due_times(engine, campaign_id) == ["Fri 03 08:00", "Mon 06 11:01", "Tue 07 08:00"]
    clock.move_to(FRIDAY + dt.timedelta(days=3, hours=5))
    send_due_emails(resources, SECONDS)
    assert due_times(engine, campaign_id) == ["Fri 03 08:00", "Mon 06 11:01", "Tue 07 13:01"]


def test_the_steps_of_a_resumed_campaign_move_by_the_length_of_the_pause(
    clock: MovedClock, engine: sa.Engine, resources: Resources, office: uuid.UUID
) -> None:
    clock.move_to(FRIDAY)
    campaign_id = started(engine, office, {"ann@example.com": {}}, [1])
    lifecycle.pause_campaign(engine, campaign_id)
    clock.move_to(FRIDAY + 2 * HOUR)
    lifecycle.resume_campaign(engine, campaign_id)
    rows = rows_of(engine, campaign_id)
    assert all(
        dt.timedelta(seconds=-5) < row["scheduled_for"] - at < dt.timedelta(seconds=5)
        for row, at in zip(rows, [FRIDAY + 2 * HOUR, FRIDAY + dt.timedelta(days=3, hours=2)], strict=True)
    )


def test_the_fence_returns_a_step_whose_open_days_are_not_over(
    clock: MovedClock, engine: sa.Engine, resources: Resources, office: uuid.UUID
) -> None:
    clock.move_to(FRIDAY)
    campaign_id = started(engine, office, {"ann@example.com": {}}, [1])
    send_due_emails(resources, SECONDS)
    follow_up = rows_of(engine, campaign_id)[1]["id"]
    # As if its sender had claimed it together with the first step. A day of the calendar is over, the weekend is not.
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE scheduled_emails SET scheduled_for = now() WHERE status = 'pending'"))
    clock.move_to(FRIDAY + dt.timedelta(days=1, hours=2))
    token = uuid.uuid4()
    with engine.begin() as connection:
        claimed = claim_emails.claim_one(connection, follow_up, token)
        assert claimed is not None
        assert claim_emails.fence(connection, [claimed], token).turned_away == {"waits_for_earlier_step": 1}
    assert due_times(engine, campaign_id)[1] == "Mon 06 08:00"


def test_send_now_names_the_open_day_on_which_the_gap_ends(
    clock: MovedClock, engine: sa.Engine, resources: Resources, office: uuid.UUID
) -> None:
    clock.move_to(FRIDAY)
    campaign_id = started(engine, office, {"ann@example.com": {}}, [1])
    send_due_emails(resources, SECONDS)
    clock.move_to(FRIDAY + dt.timedelta(days=2))
    with engine.begin() as connection, pytest.raises(Conflict, match="the gap between the steps ends at 2026-07-06T08"):
        scheduled_emails.make_due_now(connection, rows_of(engine, campaign_id)[1]["id"], "ann")


def test_business_days_without_a_schedule_are_refused_by_field(clock: MovedClock, engine: sa.Engine) -> None:
    with pytest.raises(InvalidInput) as refused:
        started(engine, None, {"ann@example.com": {}}, [1])
    assert [(error.field, error.message) for error in refused.value.errors] == [
        ("sending_schedule_id", "must name a sending schedule: step 2 waits for days on which it is open")
    ]
