"""Sending schedules: the hours of a week, with holidays, in which campaigns may send.

Reads and writes `sending_schedules`; reads `campaigns`; writes `audit_log`. A change counts from the next claim on, for
all campaigns with the schedule: no email is touched.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from sendledger.core import audit_log, by_id, pagination
from sendledger.core.audit_log import SYSTEM
from sendledger.core.errors import Conflict, FieldError, InvalidInput, NotFound
from sendledger.core.pagination import Page
from sendledger.core.tables import campaigns, sending_schedules
from sendledger.core.time_zones import UnknownTimeZone, zone, zone_name
from sendledger.core.vocabulary import AuditAction, ZoneOf
from sendledger.policy.openings import WEEKDAYS, Hours

_table = sending_schedules


def create(connection: sa.Connection, values: Mapping[str, Any], actor: str = SYSTEM) -> sa.RowMapping:
    """Store a schedule; `values` are columns.

    Raises:
        InvalidInput: there is no such time zone, or the hours are not in order, overlap, or are empty.
    """
    inserted = sa.insert(_table).values(_checked(values)).returning(_table)
    created = connection.execute(inserted).mappings().one()
    audit_log.record(connection, actor, AuditAction.SENDING_SCHEDULE_CREATE, "sending_schedule", created["id"])
    return created


def get(connection: sa.Connection, schedule_id: UUID) -> sa.RowMapping:
    """Raises:
    NotFound: there is no such schedule.
    """
    return by_id.row(connection, _table, schedule_id, "sending schedule")


def list_page(connection: sa.Connection, limit: int, cursor: str | None, sort: str = pagination.NEWEST_FIRST) -> Page:
    """A page of schedules, in the order of `pagination.Order`."""
    return pagination.sorted_page(connection, sa.select(_table), _table, limit, cursor, sort)


def update(
    connection: sa.Connection, schedule_id: UUID, changes: Mapping[str, Any], actor: str = SYSTEM
) -> sa.RowMapping:
    """Change the given columns only.

    Raises:
        NotFound: there is no such schedule.
        InvalidInput: as in `create`.
    """
    before = get(connection, schedule_id)
    if not changes:
        return before
    changed = sa.update(_table).where(_table.c.id == schedule_id).returning(_table)
    values = {**_checked(changes), "revision": _table.c.revision + 1, "updated_at": sa.func.now()}
    after = connection.execute(changed.values(values)).mappings().one_or_none()
    if after is None:
        raise NotFound("sending schedule", schedule_id)
    # It changes when running campaigns send, so the log has the values before and after.
    shown = [{name: _plain(row[name]) for name in sorted(changes)} for row in (before, after)]
    detail = {"fields": sorted(changes), "before": shown[0], "after": shown[1]}
    audit_log.record(connection, actor, AuditAction.SENDING_SCHEDULE_UPDATE, "sending_schedule", schedule_id, detail)
    return after


def delete(connection: sa.Connection, schedule_id: UUID, actor: str = SYSTEM) -> None:
    """Delete a schedule that no campaign has.

    Raises:
        NotFound: there is no such schedule.
        Conflict: `data` names campaigns that have it. One that has ended counts too: what failed may be sent again.
    """
    by_id.row(connection, _table, schedule_id, "sending schedule", lock=True)
    have_it = sa.select(campaigns.c.id, campaigns.c.name).where(campaigns.c.sending_schedule_id == schedule_id)
    if users := by_id.named(connection, have_it):
        raise Conflict("Campaigns use the sending schedule; it cannot be deleted.", campaigns=users)
    connection.execute(sa.delete(_table).where(_table.c.id == schedule_id))
    audit_log.record(connection, actor, AuditAction.SENDING_SCHEDULE_DELETE, "sending_schedule", schedule_id)


def hours_of(schedule: sa.RowMapping) -> Hours:
    """The hours of a stored schedule."""
    week = tuple(
        tuple((_minutes(opens), _minutes(closes)) for opens, closes in schedule["hours"].get(day, ()))
        for day in WEEKDAYS
    )
    return Hours(week, frozenset(schedule["holidays"]))


def zone_that_counts(row: sa.RowMapping) -> str:
    """The zone that a schedule goes by for leads of `lead_zone`."""
    return str(row["lead_zone"] if row["zone_of"] == ZoneOf.LEAD and row["lead_zone"] else row["time_zone"])


def rules(name: str) -> ZoneInfo | None:
    """None: a zone that was stored with newer tables than these. It is closed."""
    try:
        return zone(name)
    except UnknownTimeZone:
        return None


def _checked(values: Mapping[str, Any]) -> dict[str, Any]:
    """The columns to store: the zone as the IANA database spells it, hours and holidays in order."""
    checked, errors = dict(values), list[FieldError]()
    if "time_zone" in values:
        try:
            checked["time_zone"] = zone_name(values["time_zone"])
        except UnknownTimeZone as error:
            errors.append(FieldError("time_zone", str(error)))
    if "hours" in values:
        errors += _wrong_hours(values["hours"])
        checked["hours"] = {day: sorted(map(list, values["hours"].get(day) or ())) for day in WEEKDAYS}
    if "holidays" in values:
        checked["holidays"] = sorted(set(values["holidays"]))
    if errors:
        raise InvalidInput("The sending schedule is not valid.", errors)
    return checked


def _wrong_hours(hours: Mapping[str, Sequence[Sequence[str]]]) -> Iterator[FieldError]:
    if not any(hours.values()):
        yield FieldError("hours", "must have at least one pair of times; nothing would ever be sent")
    for day in WEEKDAYS:
        spans = list(enumerate(hours.get(day) or ()))
        for index, (opens, closes) in spans:
            if opens >= closes:
                yield FieldError(f"hours.{day}.{index}", f"must end after it begins; {opens} to {closes} does not")
        in_order = sorted(spans, key=lambda span: tuple(span[1]))
        for (_, (_, closes)), (index, (opens, _)) in itertools.pairwise(in_order):
            if opens < closes:
                yield FieldError(f"hours.{day}.{index}", f"must not begin before {closes}, when another one ends")


def _minutes(time: str) -> int:
    hours, minutes = time.split(":")
    return int(hours) * 60 + int(minutes)


def _plain(value: Any) -> Any:
    return (
        [each.isoformat() if isinstance(each, dt.date) else each for each in value]
        if isinstance(value, list)
        else value
    )
