"""The rules of caps: how a ramp grows, how a day's budget is spread, and what counts as a company."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendledger.core.time_zones import zone
from sendledger.policy import caps
from sendledger.policy.caps import Ramp, SendingDay, Use
from sendledger.policy.openings import Opening

MONDAY = dt.datetime(2026, 7, 6, tzinfo=dt.UTC)
DAY = SendingDay(MONDAY.date(), MONDAY, MONDAY + dt.timedelta(days=1))
MINUTE = dt.timedelta(minutes=1)


def at(hours: float) -> dt.datetime:
    return MONDAY + dt.timedelta(hours=hours)


def hours(*spans: tuple[float, float]) -> list[Opening]:
    return caps.merged([Opening(at(opens), at(closes)) for opens, closes in spans], DAY)


OFFICE = hours((9, 12), (13, 18))


def sent_by_tick(cap: int, openings: list[Opening], every: dt.timedelta, down_until: float = 0) -> list[int]:
    """How many go at each tick of the day, if something is always due and no sender runs before an hour."""
    sent: list[int] = []
    now, first, last = DAY.starts_at, None, None
    while now < DAY.ends_at:
        if any(now in each for each in openings) and now >= at(down_until):
            number = caps.released(Use(cap, sum(sent), first, last), openings, now)
            first, last = (first or now, now) if number else (first, last)
            sent.append(number)
        now += every
    return sent


@pytest.mark.parametrize(
    ("daily_cap", "ramp", "by_day"),
    [
        (None, None, [None, None]),
        (50, None, [50, 50]),
        (None, Ramp(10, 5, 24), [10, 15, 20, 24, 24]),
        (18, Ramp(10, 5, 24), [10, 15, 18, 18]),
        (None, Ramp(7, 5, 7), [7, 7]),
    ],
)
def test_cap_grows_with_each_day_of_sending(daily_cap: int | None, ramp: Ramp | None, by_day: list[int | None]) -> None:
    assert [caps.cap_of_day(daily_cap, ramp, days) for days in range(len(by_day))] == by_day
    if ramp is not None:
        assert caps.cap_of_day(None, ramp, ramp.days) == ramp.ceiling
        assert ramp.days == 0 or caps.cap_of_day(None, ramp, ramp.days - 1) != ramp.ceiling


@pytest.mark.parametrize("cap", [1, 2, 5, 48, 50, 333])
@pytest.mark.parametrize("minutes", [1, 5, 30])
@pytest.mark.parametrize("openings", [OFFICE, hours((0, 24)), hours((9, 13))], ids=["office", "always", "morning"])
def test_spread_budget_is_used_up_and_never_goes_in_a_burst(cap: int, minutes: int, openings: list[Opening]) -> None:
    sent = sent_by_tick(cap, openings, minutes * MINUTE)
    assert sum(sent) == cap
    assert sent[0] == 1
    even = cap / len(sent)
    assert max(sent) <= 2 * even + 2
    half = sum(sent[: len(sent) // 2])
    # It is all released half an hour, or an eighth of the time, before the end.
    assert half <= cap / 2 * 8 / 7 + even + 1
    assert half >= cap / 2 * 0.8 - 2


def test_what_an_outage_held_up_goes_no_faster_than_the_rest_of_the_day_needs() -> None:
    sent = sent_by_tick(80, OFFICE, MINUTE, down_until=14)
    assert sum(sent) == 80
    assert max(sent) <= 2
    # In the middle of the day, after the first email had gone.
    assert caps.released(Use(80, 1, at(9), at(9)), OFFICE, at(16)) <= 80 * 1.5 * 1 / (1 + 1.5)


def test_nothing_is_released_where_nothing_is_open() -> None:
    assert caps.released(Use(50), [], at(9)) == 0
    assert caps.released(Use(50), OFFICE, at(18)) == 0
    assert caps.released(Use(50, 50), OFFICE, at(9)) == 0


@given(
    cap=st.integers(2, 400) | st.integers(2, 5),
    used=st.integers(1, 400),
    times=st.lists(st.floats(0, 23.99), min_size=3, max_size=3).map(sorted),
    pause=st.integers(60, 1320).map(lambda minutes: minutes / 60),
)
def test_next_release_is_when_the_next_one_may_go(cap: int, used: int, times: list[float], pause: float) -> None:
    openings = hours((0, pause), (pause + 0.5, 24))
    first, last, now = map(at, times)
    use = Use(cap, 1 + used % (cap - 1), first, last)
    next_at = caps.next_release(use, openings, now)
    assert next_at >= now
    assert caps.released(use, openings, next_at) >= 1
    if next_at > now:
        assert caps.released(use, openings, next_at - dt.timedelta(seconds=1)) == 0


@given(
    seconds=st.lists(st.floats(0, 59.9), min_size=3, max_size=3), cap=st.integers(2, 400), minutes=st.integers(0, 500)
)
def test_second_of_a_tick_does_not_decide_what_is_released(seconds: list[float], cap: int, minutes: int) -> None:
    times = [at(9), at(9.5), at(9.5) + minutes * MINUTE]
    later = [time + dt.timedelta(seconds=second) for time, second in zip(times, seconds, strict=True)]
    uses = [(Use(cap, 1, first, last), now) for first, last, now in (times, later)]
    (released,) = {caps.released(use, OFFICE, now) for use, now in uses}
    assert released or len({caps.next_release(use, OFFICE, now) for use, now in uses}) == 1


@pytest.mark.parametrize(
    ("now", "name", "date", "hours_long"),
    [
        (dt.datetime(2026, 7, 6, 23, 30, tzinfo=dt.UTC), "UTC", (2026, 7, 6), 24),
        (dt.datetime(2026, 7, 6, 23, 30, tzinfo=dt.UTC), "Europe/Berlin", (2026, 7, 7), 24),
        (dt.datetime(2026, 10, 25, 12, tzinfo=dt.UTC), "Europe/Berlin", (2026, 10, 25), 25),
        (dt.datetime(2026, 3, 29, 12, tzinfo=dt.UTC), "Europe/Berlin", (2026, 3, 29), 23),
    ],
)
def test_day_is_that_of_its_time_zone(now: dt.datetime, name: str, date: tuple[int, int, int], hours_long: int) -> None:
    day = caps.sending_day(now, zone(name))
    assert day.date == dt.date(*date)
    assert day.starts_at <= now < day.ends_at
    assert day.ends_at - day.starts_at == dt.timedelta(hours=hours_long)
