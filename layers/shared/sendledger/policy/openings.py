"""Openings: when a sending schedule is open in a time zone. Hours of a week in, intervals of UTC out; pure.

Whether a schedule is open at an instant depends on the local time of that instant alone: the day of the week, the
date (no holiday) and the hour. So where the clock is put forward, an hour that does not exist is not open, and one that
begins in the gap begins at the first time that exists. Where it is put back, the hour that happens twice is open twice.
This is the only module that knows of daylight saving time. Dates are local, times are minutes of the day.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from zoneinfo import ZoneInfo

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
LOOK_AHEAD = dt.timedelta(days=400)
"""How far the next opening is looked for."""

_DAY = dt.timedelta(days=1)
_MINUTE = dt.timedelta(minutes=1)
# From UTC−12 to UTC+14, and at most one change of the clock beyond that.
_WIDEST_OFFSET = dt.timedelta(hours=16)
_STEP = dt.timedelta(hours=1)


@dataclass(frozen=True)
class Hours:
    """When a schedule is open: for each day of the week from Monday on, pairs of minutes, ordered and apart.

    The second of a pair is the first minute that is closed; a whole day ends at 1440.
    """

    week: tuple[tuple[tuple[int, int], ...], ...]
    holidays: frozenset[dt.date] = frozenset()

    def of(self, date: dt.date) -> tuple[tuple[int, int], ...]:
        """The open minutes of a date."""
        return () if date in self.holidays else self.week[date.weekday()]


@dataclass(frozen=True)
class Opening:
    """Open from `opens_at` on and before `closes_at`, both UTC."""

    opens_at: dt.datetime
    closes_at: dt.datetime

    def __contains__(self, instant: dt.datetime) -> bool:
        return self.opens_at <= instant < self.closes_at


def opening_at(hours: Hours, zone: ZoneInfo, instant: dt.datetime) -> Opening | None:
    """The opening that this instant lies in, seen from the day before to the day after."""
    local = instant.astimezone(zone)
    minutes = local.hour * 60 + local.minute
    if not any(start <= minutes < end for start, end in hours.of(local.date())):
        return None
    return next((each for each in openings(hours, zone, instant, instant + _MINUTE) if instant in each), None)


def next_opening(hours: Hours, zone: ZoneInfo, instant: dt.datetime) -> Opening | None:
    """The opening that contains this instant, or the next one. None if there is none within `LOOK_AHEAD`."""
    for opening in openings(hours, zone, instant, instant + LOOK_AHEAD):
        return opening
    return None


def openings(hours: Hours, zone: ZoneInfo, start: dt.datetime, end: dt.datetime) -> Iterator[Opening]:
    """The openings that touch a span of UTC, in their order. One that begins where another ends continues it."""
    current: Opening | None = None
    date, last = start.astimezone(zone).date() - _DAY, end.astimezone(zone).date() + _DAY
    while date <= last:
        for opening in openings_of(hours, zone, date):
            if current is not None and current.closes_at == opening.opens_at:
                current = Opening(current.opens_at, opening.closes_at)
                continue
            if current is not None and current.closes_at > start and current.opens_at < end:
                yield current
            current = opening
        if current is not None and current.opens_at >= end:
            return
        date += _DAY
    if current is not None and current.closes_at > start and current.opens_at < end:
        yield current


def business_days_after(hours: Hours, zone: ZoneInfo, instant: dt.datetime, days: int) -> dt.datetime:
    """The same local time on the n-th later day on which the schedule is open.

    A local time that does not exist on that day becomes the first that does; one that happens twice is the first.
    Where a schedule has no such days (all are holidays), days of the calendar count after `LOOK_AHEAD`.
    """
    if not days:
        return instant
    local = instant.astimezone(zone)
    date, missing = local.date(), days
    last = date + LOOK_AHEAD + days * dt.timedelta(days=7)
    while missing and date < last:
        date += _DAY
        missing -= _is_open_day(hours, zone, date)
    return _at(zone, dt.datetime.combine(date, local.time().replace(fold=0)))


def _is_open_day(hours: Hours, zone: ZoneInfo, date: dt.date) -> bool:
    if not hours.of(date):
        return False
    midnight = dt.datetime.combine(date, dt.time(0), zone)
    if midnight.utcoffset() == (midnight + _DAY).utcoffset():
        return True  # the clock does not change on this day, so all of its hours exist
    return bool(openings_of(hours, zone, date))


def _at(zone: ZoneInfo, local: dt.datetime) -> dt.datetime:
    """The instant of a local time, in UTC."""
    instant = local.replace(tzinfo=zone).astimezone(dt.UTC)
    if instant.astimezone(zone).replace(tzinfo=None) == local:
        return instant
    # In the gap, the offset of after the change leads to before it (PEP 495).
    return _change(zone, local.replace(tzinfo=zone, fold=1).astimezone(dt.UTC), instant)


@functools.lru_cache(maxsize=20_000)
def openings_of(hours: Hours, zone: ZoneInfo, date: dt.date) -> tuple[Opening, ...]:
    """The openings of one local date, in the order of time."""
    found: list[Opening] = []
    if not (spans := hours.of(date)):
        return ()
    midnight = dt.datetime.combine(date, dt.time(0), dt.UTC)
    for begins, ends, offset in _offsets(zone, midnight - _WIDEST_OFFSET, midnight + _DAY + _WIDEST_OFFSET):
        for first, past in spans:
            # Where local time is UTC plus this offset, these are the instants whose local time is within the span.
            opens = max(begins, midnight + first * _MINUTE - offset)
            closes = min(ends, midnight + past * _MINUTE - offset)
            if opens >= closes:
                continue
            if found and found[-1].closes_at == opens:
                found[-1] = Opening(found[-1].opens_at, closes)
            else:
                found.append(Opening(opens, closes))
    return tuple(found)


def _offsets(
    zone: ZoneInfo, start: dt.datetime, end: dt.datetime
) -> Iterator[tuple[dt.datetime, dt.datetime, dt.timedelta]]:
    """The parts of a span of UTC in which the zone has one offset: begin, end and offset."""
    begins, offset = start, _offset(zone, start)
    moment = start
    while moment < end:
        later = min(moment + _STEP, end)
        if (changed := _offset(zone, later)) != offset:
            change = _change(zone, moment, later)
            yield begins, change, offset
            begins, offset = change, changed
        moment = later
    yield begins, end, offset


def _change(zone: ZoneInfo, before: dt.datetime, after: dt.datetime) -> dt.datetime:
    """When the offset changes between two instants that have different ones, to the second."""
    low, high = 0, round((after - before).total_seconds())
    old = _offset(zone, before)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _offset(zone, before + dt.timedelta(seconds=middle)) == old else (low, middle)
    return before + dt.timedelta(seconds=high)


def _offset(zone: ZoneInfo, instant: dt.datetime) -> dt.timedelta:
    offset = instant.astimezone(zone).utcoffset()
    assert offset is not None  # noqa: S101 (for the type checker; a ZoneInfo knows its offset)
    return offset
