"""Lanes: which emails of a campaign with a sending policy may go now.

A campaign has a policy if it has a sending schedule or senders. Its emails wait in one lane for each time zone of its
leads, each sender, and first or later steps. Opening and closing, and a cap that is used up, write no row: before each
claim the sender works out which zones are open and which senders have budget, and claims from their lanes. What is not
known to be open is closed. Reads `sending_schedules`, `sender_addresses`, `campaigns` and `scheduled_emails`; reads and
writes `campaign_lanes`.
"""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from sendledger.core.ledger_rules import due, has_lanes, may_send
from sendledger.policy.budgets import LAST_CALLS, Budgets
from sendledger.policy.companies import free_mail
from sendledger.policy.openings import Hours, Opening, open_time, opening_at
from sendledger.policy.sending_schedules import hours_of, rules, zone_that_counts

_ALL_ZONES = sa.text("""
    SELECT s.id, s.revision, s.time_zone, s.zone_of, s.hours, s.holidays, z.lead_zone, now() AS now
    FROM sending_schedules s CROSS JOIN LATERAL (
        SELECT DISTINCT coalesce(l.time_zone, '') FROM campaigns c JOIN campaign_lanes l ON l.campaign_id = c.id
        WHERE c.sending_schedule_id = s.id AND c.status = 'running') z (lead_zone)
""")
_ADD = sa.text("""
    INSERT INTO campaign_lanes (campaign_id, lane, time_zone, sender_id, follow_up)
    SELECT :campaign_id, (SELECT coalesce(max(lane), 0) FROM campaign_lanes WHERE campaign_id = :campaign_id)
                         + row_number() OVER (ORDER BY z, s, f), nullif(z, ''), s, f
    FROM unnest(:zones) z CROSS JOIN unnest(:senders) s CROSS JOIN unnest(:follow_ups) f
    WHERE NOT EXISTS (SELECT FROM campaign_lanes l
                      WHERE l.campaign_id = :campaign_id AND coalesce(l.time_zone, '') = z
                        AND l.sender_id IS NOT DISTINCT FROM s AND l.follow_up = f)
""").bindparams(
    sa.bindparam("campaign_id", type_=sa.UUID),
    sa.bindparam("zones", type_=sa.ARRAY(sa.Text)),
    sa.bindparam("senders", type_=sa.ARRAY(sa.UUID)),
    sa.bindparam("follow_ups", type_=sa.ARRAY(sa.Boolean)),
)
_ALL = sa.text("""
    SELECT coalesce(time_zone, ''), sender_id, follow_up, lane FROM campaign_lanes WHERE campaign_id = :campaign_id
""").bindparams(sa.bindparam("campaign_id", type_=sa.UUID))

OPEN_LANES = f"""
    SELECT l.campaign_id, l.lane, l.sender_id, l.follow_up, b.remaining, z.opens_at,
           least(z.closes_at - interval '{LAST_CALLS.total_seconds():g} seconds', b.until, n.until) AS until,
           coalesce((b.used_by_campaign ->> l.campaign_id::text)::bigint, 0) AS used,
           CASE WHEN NOT l.follow_up THEN n.remaining END AS new_leads,
           CASE WHEN NOT l.follow_up THEN c.new_leads_per_company_per_day END AS company_cap
    FROM campaigns c JOIN campaign_lanes l ON l.campaign_id = c.id
    LEFT JOIN (
        SELECT z.* FROM json_to_recordset(CAST(:open_zones AS json))
            AS z (schedule_id uuid, revision integer, lead_zone text, opens_at timestamptz, closes_at timestamptz)
        JOIN sending_schedules s ON s.id = z.schedule_id AND s.revision = z.revision
    ) z ON z.schedule_id = c.sending_schedule_id AND z.lead_zone = coalesce(l.time_zone, '')
    LEFT JOIN json_to_recordset(CAST(:budgets AS json))
        AS b (sender_id uuid, remaining bigint, until timestamptz, used_by_campaign jsonb) ON b.sender_id = l.sender_id
    LEFT JOIN json_to_recordset(CAST(:new_leads AS json))
        AS n (campaign_id uuid, remaining bigint, until timestamptz) ON n.campaign_id = c.id
    WHERE {may_send("c")} AND {has_lanes("c")}
      AND (c.sending_schedule_id IS NULL OR z.schedule_id IS NOT NULL)
      AND (l.sender_id IS NULL OR b.remaining > 0)
      AND (l.follow_up OR coalesce(c.new_leads_per_day, c.new_leads_per_company_per_day) IS NULL
           OR n.campaign_id IS NOT NULL AND (c.new_leads_per_day IS NULL OR n.remaining > 0))
      AND EXISTS (SELECT FROM scheduled_emails p
                  WHERE p.campaign_id = l.campaign_id AND p.lane = l.lane AND p.lane > 0 AND {due("p", "c")})
"""
"""The lanes that are open, have budget and something due, with `lane_parameters`. A condition on `c` may follow.

The revision is compared: a schedule that has changed since it was read is closed until it is read again.
"""

OPEN_LANES_PARAMETERS: tuple[sa.BindParameter[Any], ...] = tuple(
    sa.bindparam(name, type_=sa.Text) for name in ("open_zones", "budgets", "new_leads")
)
LANE_PARAMETERS = (*OPEN_LANES_PARAMETERS, sa.bindparam("day", type_=sa.Date), sa.bindparam("free_mail", type_=sa.Text))
"""The types of `lane_parameters`: those that `OPEN_LANES` needs, and those of companies."""


@dataclass(frozen=True)
class OpenZone:
    """A schedule is open for leads of this zone; '' stands for those whose zone is not known."""

    schedule_id: uuid.UUID
    revision: int
    lead_zone: str
    opening: Opening


class LaneKey(NamedTuple):
    """What the emails of a lane share. The zone is '' where it is not known."""

    time_zone: str
    sender_id: uuid.UUID | None
    follow_up: bool


def write_lanes(
    connection: sa.Connection,
    campaign_id: uuid.UUID,
    zones: Iterable[str],
    sender_ids: Sequence[uuid.UUID],
    *,
    part_steps: bool,
) -> dict[LaneKey, int]:
    """Make sure that a campaign has a lane for each zone, each sender, and with `part_steps` first and later steps.

    Returns all its lanes. The caller has locked the campaign.
    """
    parameters: dict[str, Any] = {
        "campaign_id": campaign_id,
        "zones": sorted({*zones, ""}),
        "senders": list(sender_ids) or [None],
        "follow_ups": [False, True] if part_steps else [False],
    }
    connection.execute(_ADD, parameters)
    return {LaneKey(*key): lane for *key, lane in connection.execute(_ALL, {"campaign_id": campaign_id})}


def open_zones(connection: sa.Connection) -> list[OpenZone]:
    """Where the schedules of running campaigns are open, and stay so long enough to send something."""
    found = []
    for row in connection.execute(_ALL_ZONES).mappings():
        opening = _opening(hours_of(row), zone_that_counts(row), row["now"])
        if opening is not None and row["now"] < opening.closes_at - LAST_CALLS:
            found.append(OpenZone(row["id"], row["revision"], row["lead_zone"], opening))
    return found


def missed_zones(connection: sa.Connection, since: dt.datetime, longest: dt.timedelta) -> list[OpenZone]:
    """Where the schedules of running campaigns were open for longer than this since then."""
    found = []
    for row in connection.execute(_ALL_ZONES).mappings():
        tz = rules(zone_that_counts(row))
        if tz is not None and open_time(hours_of(row), tz, since, row["now"]) > longest:
            found.append(OpenZone(row["id"], row["revision"], row["lead_zone"], Opening(since, row["now"])))
    return found


def zones_parameter(zones: Iterable[OpenZone]) -> str:
    """Zones as a parameter for `json_to_recordset`."""
    open_now = [
        {
            "schedule_id": str(each.schedule_id),
            "revision": each.revision,
            "lead_zone": each.lead_zone,
            "opens_at": each.opening.opens_at.isoformat(),
            "closes_at": each.opening.closes_at.isoformat(),
        }
        for each in zones
    ]
    return json.dumps(open_now)


def lane_parameters(zones: Iterable[OpenZone], budgets: Budgets) -> dict[str, Any]:
    """The parameters of `OPEN_LANES` and `company_sql`."""
    with_budget = [
        {
            "sender_id": str(each.sender_id),
            "remaining": each.remaining,
            "until": each.until.isoformat(),
            "used_by_campaign": {str(id_): used for id_, used in each.used_by_campaign.items()},
        }
        for each in budgets.senders
        if each.remaining > 0
    ]
    new_leads = [
        {"campaign_id": str(each.campaign_id), "remaining": each.remaining, "until": each.until.isoformat()}
        for each in budgets.new_leads
    ]
    return {
        "day": budgets.day.date,
        "open_zones": zones_parameter(zones),
        "budgets": json.dumps(with_budget),
        "new_leads": json.dumps(new_leads),
        "free_mail": free_mail() if any(each.by_company for each in budgets.new_leads) else "",
    }


def _opening(hours: Hours, name: str, now: dt.datetime) -> Opening | None:
    tz = rules(name)
    return opening_at(hours, tz, now) if tz is not None else None
