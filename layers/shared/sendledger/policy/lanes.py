"""Lanes: which emails of a campaign with a sending schedule may go now.

All emails of a campaign whose leads share a time zone wait in one lane. Opening and closing write no row: before each
claim the sender works out which zones are open, and claims from their lanes. What is not known to be open is closed.
Reads `sending_schedules`, `campaigns` and `scheduled_emails`; reads and writes `campaign_lanes`.
"""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from sendledger.core.ledger_rules import due, is_pending, may_send
from sendledger.core.time_zones import UnknownTimeZone, zone
from sendledger.core.vocabulary import ZoneOf
from sendledger.policy.openings import Hours, Opening, next_opening, open_time, opening_at
from sendledger.policy.sending_schedules import hours_of

LAST_CALLS = dt.timedelta(seconds=2)
"""How long before its end an opening takes no more emails: what has passed the fence takes a second to go out."""

_ZONES = """
    SELECT s.id, s.revision, s.time_zone, s.zone_of, s.hours, s.holidays, z.lead_zone, now() AS now
    FROM sending_schedules s CROSS JOIN LATERAL (
        SELECT DISTINCT coalesce(l.time_zone, '') FROM campaigns c JOIN campaign_lanes l ON l.campaign_id = c.id
        WHERE c.sending_schedule_id = s.id AND c.status = 'running') z (lead_zone)
"""
_ALL_ZONES = sa.text(_ZONES)
_LANES = sa.text(f"""
    SELECT l.lane, coalesce(l.time_zone, '') AS lead_zone, s.time_zone, s.zone_of, s.hours, s.holidays, now() AS now,
           (SELECT min(e.scheduled_for) FROM scheduled_emails e
            WHERE e.campaign_id = l.campaign_id AND e.lane = l.lane AND e.lane > 0 AND {is_pending("e")}
              AND e.scheduled_for > coalesce(c.late_hold_until, '-infinity')) AS first_due
    FROM campaigns c JOIN sending_schedules s ON s.id = c.sending_schedule_id
    JOIN campaign_lanes l ON l.campaign_id = c.id
    WHERE c.id = :campaign_id ORDER BY l.lane
""").bindparams(sa.bindparam("campaign_id", type_=sa.UUID))
_ADD = sa.text("""
    INSERT INTO campaign_lanes (campaign_id, lane, time_zone)
    SELECT :campaign_id, (SELECT coalesce(max(lane), 0) FROM campaign_lanes WHERE campaign_id = :campaign_id)
                         + row_number() OVER (ORDER BY z), nullif(z, '')
    FROM unnest(:zones) z
    WHERE NOT EXISTS (SELECT FROM campaign_lanes l
                      WHERE l.campaign_id = :campaign_id AND coalesce(l.time_zone, '') = z)
""").bindparams(sa.bindparam("campaign_id", type_=sa.UUID), sa.bindparam("zones", type_=sa.ARRAY(sa.Text)))
_ALL = sa.text("SELECT time_zone, lane FROM campaign_lanes WHERE campaign_id = :campaign_id").bindparams(
    sa.bindparam("campaign_id", type_=sa.UUID)
)

OPEN_LANES = f"""
    SELECT l.campaign_id, l.lane, z.opens_at, z.closes_at - interval '{LAST_CALLS.total_seconds():g} seconds' AS until
    FROM json_to_recordset(CAST(:open_zones AS json))
         AS z (schedule_id uuid, revision integer, lead_zone text, opens_at timestamptz, closes_at timestamptz)
    JOIN sending_schedules s ON s.id = z.schedule_id AND s.revision = z.revision
    JOIN campaigns c ON c.sending_schedule_id = s.id AND {may_send("c")}
    JOIN campaign_lanes l ON l.campaign_id = c.id AND coalesce(l.time_zone, '') = z.lead_zone
    WHERE EXISTS (SELECT FROM scheduled_emails p
                  WHERE p.campaign_id = l.campaign_id AND p.lane = l.lane AND p.lane > 0 AND {due("p", "c")})
"""
"""The lanes that are open and have something due, with `open_zones_json`. A further condition on `c` may follow.

The revision is compared: a schedule that has changed since it was read is closed until it is read again.
"""


@dataclass(frozen=True)
class OpenZone:
    """A schedule is open for leads of this zone; '' stands for those whose zone is not known."""

    schedule_id: uuid.UUID
    revision: int
    lead_zone: str
    opening: Opening


@dataclass(frozen=True)
class Lane:
    """A lane of a campaign: the zone that counts, when its first email is due, and when that may go."""

    time_zone: str
    first_due: dt.datetime | None
    goes_at: dt.datetime | None


def write_lanes(
    connection: sa.Connection, campaign_id: uuid.UUID, zones: Iterable[str | None]
) -> dict[str | None, int]:
    """Make sure that a campaign has a lane for each zone, and one for leads whose zone is not known (None).

    Returns all its lanes by zone. The caller has locked the campaign.
    """
    wanted = sorted({zone or "" for zone in zones} | {""})
    connection.execute(_ADD, {"campaign_id": campaign_id, "zones": wanted})
    return {row.time_zone: row.lane for row in connection.execute(_ALL, {"campaign_id": campaign_id})}


def open_zones(connection: sa.Connection) -> list[OpenZone]:
    """Where the schedules of running campaigns are open, and stay so long enough to send something."""
    found = []
    for row in connection.execute(_ALL_ZONES).mappings():
        opening = _opening(hours_of(row), _zone_that_counts(row), row["now"])
        if opening is not None and row["now"] < opening.closes_at - LAST_CALLS:
            found.append(OpenZone(row["id"], row["revision"], row["lead_zone"], opening))
    return found


def missed_zones(connection: sa.Connection, since: dt.datetime, longest: dt.timedelta) -> list[OpenZone]:
    """Where the schedules of running campaigns were open for longer than this since then."""
    found = []
    for row in connection.execute(_ALL_ZONES).mappings():
        tz = _rules(_zone_that_counts(row))
        if tz is not None and open_time(hours_of(row), tz, since, row["now"]) > longest:
            found.append(OpenZone(row["id"], row["revision"], row["lead_zone"], Opening(since, row["now"])))
    return found


def open_zones_json(zones: Iterable[OpenZone]) -> str:
    """The zones as the parameter `open_zones` of `OPEN_LANES`."""
    return json.dumps(
        [
            {
                "schedule_id": str(each.schedule_id),
                "revision": each.revision,
                "lead_zone": each.lead_zone,
                "opens_at": each.opening.opens_at.isoformat(),
                "closes_at": each.opening.closes_at.isoformat(),
            }
            for each in zones
        ]
    )


def lanes_of(connection: sa.Connection, campaign_id: uuid.UUID) -> list[Lane]:
    """The lanes of a campaign with a schedule; empty without one. Held emails do not count."""
    found = []
    for row in connection.execute(_LANES, {"campaign_id": campaign_id}).mappings():
        name, goes_at = _zone_that_counts(row), None
        tz = _rules(name)
        if row["first_due"] is not None and tz is not None:
            earliest = max(row["first_due"], row["now"])
            opening = next_opening(hours_of(row), tz, earliest)
            goes_at = max(opening.opens_at, earliest) if opening is not None else None
        found.append(Lane(name, row["first_due"], goes_at))
    return found


def _zone_that_counts(row: sa.RowMapping) -> str:
    """The zone that a schedule goes by for leads of `lead_zone`."""
    return str(row["lead_zone"] if row["zone_of"] == ZoneOf.LEAD and row["lead_zone"] else row["time_zone"])


def _opening(hours: Hours, name: str, now: dt.datetime) -> Opening | None:
    tz = _rules(name)
    return opening_at(hours, tz, now) if tz is not None else None


def _rules(name: str) -> ZoneInfo | None:
    """None: a zone that was stored with newer tables than these. It is closed."""
    try:
        return zone(name)
    except UnknownTimeZone:
        return None
