"""A schedule is open at an instant exactly if its hours say so of the local time of that instant."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sendledger.core.time_zones import all_zones, zone
from sendledger.policy.openings import (
    Hours,
    Opening,
    next_opening,
    opening_at,
    openings,
    openings_of,
)

MINUTES_OF_DAY = 24 * 60
OFFICE = Hours((((540, 720), (780, 1020)),) * 5 + ((),) * 2)
AROUND_THE_CLOCK = Hours((((0, MINUTES_OF_DAY),),) * 7)
BERLIN = zone("Europe/Berlin")
# The clock is put forward at 02:00 on March 29 and back at 03:00 on October 25.
SPRING, AUTUMN = dt.date(2026, 3, 29), dt.date(2026, 10, 25)


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def every_day(first: int, past: int) -> Hours:
    return Hours((((first, past),),) * 7)


def of_day(hours: Hours, date: dt.date) -> list[Opening]:
    return list(openings_of(hours, BERLIN, date))


def is_open(hours: Hours, local: dt.datetime) -> bool:
    """The rule as it is written."""
    minutes = local.hour * 60 + local.minute
    return any(first <= minutes < past for first, past in hours.of(local.date()))


@st.composite
def some_hours(draw: st.DrawFn) -> Hours:
    week = []
    for _ in range(7):
        ends = sorted(draw(st.sets(st.integers(0, MINUTES_OF_DAY), max_size=6)))
        week.append(tuple(zip(ends[::2], ends[1::2], strict=False)))
    return Hours(
        tuple(week), frozenset(draw(st.sets(st.dates(dt.date(2026, 1, 1), dt.date(2035, 12, 31)), max_size=3)))
    )


INSTANTS = st.integers(0, 3650 * 86_400).map(lambda second: utc("2026-01-01T00:00") + dt.timedelta(seconds=second))
ZONES = st.sampled_from(all_zones()).map(zone)


@settings(max_examples=300, deadline=None)
@given(hours=some_hours(), tz=ZONES, instant=INSTANTS)
def test_an_instant_is_open_exactly_if_its_local_time_is(hours: Hours, tz: ZoneInfo, instant: dt.datetime) -> None:
    found = opening_at(hours, tz, instant)
    assert (found is not None) == is_open(hours, instant.astimezone(tz))
    if found is not None:
        assert instant in found
        # Half a second short of the end is open, the end is not: unless the next day begins there.
        last = found.closes_at - dt.timedelta(milliseconds=1)
        assert is_open(hours, last.astimezone(tz))
        assert found.closes_at not in found


@settings(max_examples=100, deadline=None)
@given(hours=some_hours(), tz=ZONES, start=INSTANTS)
def test_openings_are_in_order_apart_and_not_empty(hours: Hours, tz: ZoneInfo, start: dt.datetime) -> None:
    found = list(openings(hours, tz, start, start + dt.timedelta(days=10)))
    assert all(each.opens_at < each.closes_at for each in found)
    assert all(before.closes_at < after.opens_at for before, after in itertools.pairwise(found))
    for each in found:
        for edge in (each.opens_at, each.closes_at - dt.timedelta(milliseconds=1)):
            assert is_open(hours, edge.astimezone(tz))
        for outside in (each.opens_at - dt.timedelta(milliseconds=1), each.closes_at):
            assert not is_open(hours, outside.astimezone(tz))


def days_of_changes(tz: ZoneInfo) -> Iterator[dt.datetime]:
    """Noon of each day of ten years whose offset is another one than a day before; a week is looked at by its ends."""
    noon, day = utc("2026-01-01T12:00"), dt.timedelta(days=1)
    for week in range(522):
        first = noon + 7 * week * day
        if first.astimezone(tz).utcoffset() != (first + 7 * day).astimezone(tz).utcoffset():
            for each in (first + number * day for number in range(1, 8)):
                if each.astimezone(tz).utcoffset() != (each - day).astimezone(tz).utcoffset():
                    yield each


def test_at_every_change_of_the_clock_in_ten_years_an_opening_is_what_the_local_time_says() -> None:
    hours = every_day(20, 200)
    changes = 0
    for tz in map(zone, all_zones()):
        for noon in days_of_changes(tz):
            changes += 1
            found = list(openings(hours, tz, noon - dt.timedelta(days=1), noon))
            for instant in (noon - dt.timedelta(minutes=minute) for minute in range(0, 24 * 60, 50)):
                assert any(instant in each for each in found) == is_open(hours, instant.astimezone(tz)), (tz, instant)
    assert changes > 2000


def test_a_time_that_does_not_exist_becomes_the_first_that_does() -> None:
    assert of_day(every_day(150, 300), SPRING) == [Opening(utc("2026-03-29T01:00"), utc("2026-03-29T03:00"))]
    # Both ends fall into the gap.
    assert of_day(every_day(130, 170), SPRING) == []


def test_a_time_that_happens_twice_opens_at_the_first_and_closes_at_the_last() -> None:
    assert of_day(every_day(120, 180), AUTUMN) == [Opening(utc("2026-10-25T00:00"), utc("2026-10-25T02:00"))]
    assert of_day(every_day(120, 300), AUTUMN)[0].opens_at == utc("2026-10-25T00:00")
    assert of_day(every_day(60, 150), AUTUMN)[-1].closes_at == utc("2026-10-25T01:30")


@pytest.mark.parametrize(("date", "hours"), [(SPRING, 23), (AUTUMN, 25), (dt.date(2026, 7, 1), 24)])
def test_a_whole_day_is_as_long_as_it_is(date: dt.date, hours: int) -> None:
    (opening,) = of_day(AROUND_THE_CLOCK, date)
    assert opening.closes_at - opening.opens_at == dt.timedelta(hours=hours)


def test_a_day_that_a_zone_skips_has_no_opening() -> None:
    assert openings_of(AROUND_THE_CLOCK, zone("Pacific/Apia"), dt.date(2011, 12, 30)) == ()


def test_nothing_is_open_on_a_holiday() -> None:
    friday = dt.date(2026, 12, 25)
    closed = Hours(OFFICE.week, frozenset([friday]))
    assert opening_at(OFFICE, BERLIN, utc("2026-12-25T10:00")) is not None
    assert opening_at(closed, BERLIN, utc("2026-12-25T10:00")) is None
    assert next_opening(closed, BERLIN, utc("2026-12-25T10:00")) == Opening(
        utc("2026-12-28T08:00"), utc("2026-12-28T11:00")
    )


def test_ends_are_exclusive() -> None:
    assert opening_at(OFFICE, BERLIN, utc("2026-07-01T09:59:59")) is not None
    assert opening_at(OFFICE, BERLIN, utc("2026-07-01T10:00:00")) is None
    assert opening_at(OFFICE, BERLIN, utc("2026-07-01T07:00:00")) is not None


def test_openings_that_meet_at_midnight_are_one() -> None:
    start = utc("2026-07-01T00:00")
    found = list(openings(AROUND_THE_CLOCK, BERLIN, start, start + dt.timedelta(days=3)))
    assert len(found) == 1
    assert found[0].closes_at >= start + dt.timedelta(days=3)


def test_the_next_opening_of_a_schedule_that_never_opens_is_none() -> None:
    assert next_opening(Hours(((),) * 7), BERLIN, utc("2026-07-01T00:00")) is None
