"""Business days: when a step may go that waits for days on which its campaign's sending schedule is open.

They are counted in the zone of the lead, and the local time of day stays the same. Like openings they are computed in
Python, for the emails at hand: `campaign_steps.delay` has as many days of the calendar and is not exact. Reads
`campaigns` with their schedules, `campaign_steps`, `campaign_lanes` and `scheduled_emails`.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from sendledger.core.kept_statements import KEPT
from sendledger.core.ledger_rules import LAST_STEP, is_step_of, went_at
from sendledger.core.vocabulary import ZoneOf
from sendledger.policy.openings import Hours, Opening, business_days_after, next_opening, openings
from sendledger.policy.sending_schedules import hours_of, rules

_UUIDS = sa.ARRAY(sa.UUID)
_IDS = sa.ARRAY(sa.BigInteger)

_CALENDARS = sa.text(f"""{KEPT}
    SELECT c.id AS campaign_id, s.time_zone, s.zone_of, s.hours, s.holidays
    FROM campaigns c JOIN sending_schedules s ON s.id = c.sending_schedule_id
    WHERE c.id = ANY(:campaign_ids)
      AND (:all_schedules
           OR EXISTS (SELECT FROM campaign_steps p WHERE p.campaign_id = c.id AND p.business_days IS NOT NULL))
""").bindparams(sa.bindparam("campaign_ids", type_=_UUIDS), sa.bindparam("all_schedules", type_=sa.Boolean))
_STEPS = sa.text("""
    SELECT s.step_number, s.delay, s.business_days
    FROM campaigns c JOIN campaign_steps s ON s.campaign_id = c.id AND s.revision = c.revision
    WHERE c.id = :campaign_id ORDER BY s.step_number
""").bindparams(sa.bindparam("campaign_id", type_=sa.UUID))
# The earlier steps are looked up by the lead, as in the fence.
_AFTER_EARLIER = sa.text(f"""
    SELECT e.id, e.campaign_id, own.business_days, coalesce(l.time_zone, '') AS lead_zone,
           (SELECT max({went_at("p")}) FROM scheduled_emails p
            WHERE p.lead_id = e.lead_id AND p.campaign_id = e.campaign_id
              AND p.workflow_step_number < e.workflow_step_number) AS sent_at
    FROM scheduled_emails e
    JOIN campaign_steps own ON {is_step_of("own", "e")}
    LEFT JOIN campaign_lanes l ON l.campaign_id = e.campaign_id AND l.lane = e.lane
    WHERE e.id = ANY(:ids) AND own.business_days IS NOT NULL
""").bindparams(sa.bindparam("ids", type_=_IDS))
_NEXT_STEP = sa.text(f"""
    SELECT e.id, e.campaign_id, next.business_days, coalesce(l.time_zone, '') AS lead_zone, now() AS now
    FROM scheduled_emails e
    CROSS JOIN LATERAL (
        SELECT s.business_days FROM campaign_steps s
        WHERE s.campaign_id = e.campaign_id AND s.revision = e.revision
          AND s.step_number > e.workflow_step_number AND s.step_number <= {LAST_STEP}
        ORDER BY s.step_number LIMIT 1) next
    LEFT JOIN campaign_lanes l ON l.campaign_id = e.campaign_id AND l.lane = e.lane
    WHERE e.id = ANY(:ids) AND next.business_days IS NOT NULL
""").bindparams(sa.bindparam("ids", type_=_IDS))


@dataclass(frozen=True)
class Calendar:
    """The days of a campaign's sending schedule."""

    hours: Hours
    time_zone: str
    zone_of: str

    def after(self, lead_zone: str, instant: dt.datetime, days: int) -> dt.datetime:
        """The same local time on the n-th business day after an instant, for leads of this zone; '': not known."""
        zone = self._zone(lead_zone)
        if zone is None:
            return instant + dt.timedelta(days=days)  # the schedule is closed in a zone that this version does not know
        return business_days_after(self.hours, zone, instant, days)

    def opening_from(self, lead_zone: str, instant: dt.datetime) -> Opening | None:
        """The opening that an instant lies in, or the next one; None: there is none."""
        zone = self._zone(lead_zone)
        return next_opening(self.hours, zone, instant) if zone is not None else None

    def openings(self, lead_zone: str, start: dt.datetime, end: dt.datetime) -> list[Opening]:
        """The openings that touch a span."""
        zone = self._zone(lead_zone)
        return list(openings(self.hours, zone, start, end)) if zone is not None else []

    def _zone(self, lead_zone: str) -> ZoneInfo | None:
        return rules(lead_zone if self.zone_of == ZoneOf.LEAD and lead_zone else self.time_zone)


def calendars(
    connection: sa.Connection, campaign_ids: Sequence[uuid.UUID], *, all_schedules: bool = False
) -> dict[uuid.UUID, Calendar]:
    """The calendars of those campaigns that have steps which wait for business days, or of all with a schedule."""
    parameters = {"campaign_ids": list(campaign_ids), "all_schedules": all_schedules}
    rows = connection.execute(_CALENDARS, parameters).mappings()
    return {row["campaign_id"]: Calendar(hours_of(row), row["time_zone"], row["zone_of"]) for row in rows}


def due_times(
    connection: sa.Connection, campaign_id: uuid.UUID, zones: Iterable[str], start_at: dt.datetime
) -> list[dict[str, Any]]:
    """When the steps of a campaign are due for leads of these zones, for JSON: one entry for each zone and step.

    Empty where no step waits for business days.
    """
    calendar = calendars(connection, [campaign_id]).get(campaign_id)
    if calendar is None:
        return []
    times = []
    steps = connection.execute(_STEPS, {"campaign_id": campaign_id}).all()
    for zone in zones:
        at = start_at
        for number, delay, days in steps:
            at = at + delay if days is None else calendar.after(zone, at, days)
            times.append({"zone": zone, "step_number": number, "due_at": at.isoformat()})
    return times


def gaps(connection: sa.Connection, ids: Sequence[int], campaign_ids: Sequence[uuid.UUID]) -> dict[int, dt.datetime]:
    """Of these scheduled emails that wait for business days: when those days after the lead's last email end."""
    known = calendars(connection, campaign_ids)
    if not known:
        return {}
    return {
        row.id: known[row.campaign_id].after(row.lead_zone, row.sent_at, row.business_days)
        for row in connection.execute(_AFTER_EARLIER, {"ids": list(ids)})
        if row.sent_at is not None and row.campaign_id in known
    }


def next_steps_due(
    connection: sa.Connection, sent_ago: Mapping[int, float], campaign_ids: Sequence[uuid.UUID]
) -> dict[int, dt.datetime]:
    """Of scheduled emails that went out so many seconds ago: when the next step is due, if it waits for business
    days."""
    known = calendars(connection, campaign_ids)
    if not known:
        return {}
    return {
        row.id: known[row.campaign_id].after(
            row.lead_zone, row.now - dt.timedelta(seconds=sent_ago[row.id]), row.business_days
        )
        for row in connection.execute(_NEXT_STEP, {"ids": list(sent_ago)})
        if row.campaign_id in known
    }
