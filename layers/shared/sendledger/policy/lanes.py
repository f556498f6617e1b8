"""Lanes: which emails of a campaign with a sending policy may go now.

A campaign has a policy if it has a sending schedule, senders or caps. Its emails wait in one lane for each time zone of
its leads, each sender, and first or later steps. Opening and closing, and a cap that is used up, write no row: the
sender works out which zones are open and which senders have budget, and claims from their lanes (lane_queue.py). What
is not known to be open is closed. Reads `sending_schedules`, `sender_addresses`, `campaigns` and `scheduled_emails`;
reads and writes `campaign_lanes`.
"""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from sendledger.core.ledger_rules import due, has_lanes, held_until, may_send, waits_in_lane
from sendledger.policy.budgets import LAST_CALLS, Budgets
from sendledger.policy.openings import Hours, Opening, opening_at
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

_IN_OPEN_ZONE = """(
        SELECT z.* FROM json_to_recordset(CAST(:open_zones AS json))
            AS z (number integer, schedule_id uuid, revision integer, lead_zone text, opens_at timestamptz)
        JOIN sending_schedules s ON s.id = z.schedule_id AND s.revision = z.revision
    ) z ON z.schedule_id = c.sending_schedule_id AND z.lead_zone = coalesce(l.time_zone, '')"""
# A CASE, so that what waits in closed lanes is not looked for: most lanes are closed at most times.
# ORDER BY and OFFSET 0: as in completion.py. The planner would read the whole ledger, as long as it has less than some
# million rows.
_IS_OPEN_WITH_SOMETHING_DUE = f"""
    {may_send("c")} AND {has_lanes("c")} AND CASE WHEN c.sending_schedule_id IS NULL OR z.schedule_id IS NOT NULL THEN
        EXISTS (SELECT FROM scheduled_emails p WHERE p.campaign_id = l.campaign_id AND p.lane = l.lane
                AND {waits_in_lane("p")} AND {due("p", "c", "l")} ORDER BY p.scheduled_for OFFSET 0) END
"""

OPEN_LANES = f"""
    SELECT l.campaign_id, l.lane, l.sender_id, l.follow_up, b.remaining, z.opens_at,
           {held_until("c", "l")} AS late_hold_until,
           CASE WHEN NOT l.follow_up THEN n.remaining END AS new_leads,
           CASE WHEN NOT l.follow_up THEN c.new_leads_per_company_per_day END AS company_cap
    FROM campaigns c JOIN campaign_lanes l ON l.campaign_id = c.id
    LEFT JOIN {_IN_OPEN_ZONE}
    LEFT JOIN json_to_recordset(CAST(:budgets AS json))
        AS b (sender_id uuid, remaining bigint) ON b.sender_id = l.sender_id
    LEFT JOIN json_to_recordset(CAST(:new_leads AS json))
        AS n (campaign_id uuid, remaining bigint) ON n.campaign_id = c.id
    WHERE {_IS_OPEN_WITH_SOMETHING_DUE}
      AND (l.sender_id IS NULL OR b.remaining > 0)
      AND (l.follow_up OR coalesce(c.new_leads_per_day, c.new_leads_per_company_per_day) IS NULL
           OR n.campaign_id IS NOT NULL AND (c.new_leads_per_day IS NULL OR n.remaining > 0))
"""
"""The lanes that are open, have budget and something due, with `lane_parameters`.

The revision is compared: a schedule that has changed since it was read is closed until it is read again.
"""

LANES_BY_GROUP = f"""
    SELECT l.campaign_id, l.sender_id, l.follow_up,
           NOT l.follow_up AND coalesce(c.new_leads_per_day, c.new_leads_per_company_per_day) IS NOT NULL
               AS counts_new_leads,
           NOT l.follow_up AND c.new_leads_per_company_per_day IS NOT NULL AS counts_companies,
           string_agg(CAST(l.lane AS text), ',') AS lanes, string_agg(CAST(coalesce(z.number, 0) AS text), ',') AS zones
    FROM campaigns c JOIN campaign_lanes l ON l.campaign_id = c.id
    LEFT JOIN {_IN_OPEN_ZONE}
    WHERE {_IS_OPEN_WITH_SOMETHING_DUE} AND c.prepared_alone = :alone
    GROUP BY 1, 2, 3, 4, 5
"""
"""The lanes that are open and have something due, with the parameters `open_zones` and `alone`.

Together are those of one campaign and sender, for first or later steps, each with the number of its zone, from 1 on; 0
without a schedule.
"""

OPEN_LANES_PARAMETERS: tuple[sa.BindParameter[Any], ...] = tuple(
    sa.bindparam(name, type_=sa.Text) for name in ("open_zones", "budgets", "new_leads")
)
LANE_PARAMETERS = (*OPEN_LANES_PARAMETERS, sa.bindparam("day", type_=sa.Date))
"""The types of `lane_parameters`: those that `OPEN_LANES` needs, and that of `rows_by_company`."""


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


def zones_in_use(connection: sa.Connection) -> Sequence[sa.RowMapping]:
    """The schedules of running campaigns, each with every zone that leads of them have; '' where it is not known."""
    return connection.execute(_ALL_ZONES).mappings().all()


def open_zones(connection: sa.Connection) -> list[OpenZone]:
    """Where the schedules of running campaigns are open, and stay so long enough to send something."""
    found = []
    for row in zones_in_use(connection):
        opening = _opening(hours_of(row), zone_that_counts(row), row["now"])
        if opening is not None and row["now"] < opening.closes_at - LAST_CALLS:
            found.append(OpenZone(row["id"], row["revision"], row["lead_zone"], opening))
    return found


def zones_parameter(zones: Iterable[OpenZone]) -> str:
    """Zones as a parameter for `json_to_recordset`."""
    open_now = [
        {
            "number": number,
            "schedule_id": str(each.schedule_id),
            "revision": each.revision,
            "lead_zone": each.lead_zone,
            "opens_at": each.opening.opens_at.isoformat(),
        }
        for number, each in enumerate(zones, 1)
    ]
    return json.dumps(open_now)


def lane_parameters(zones: Iterable[OpenZone], budgets: Budgets) -> dict[str, Any]:
    """The parameters of `OPEN_LANES` and `rows_by_company`."""
    with_budget = [
        {"sender_id": str(each.sender_id), "remaining": each.remaining}
        for each in budgets.senders
        if each.remaining > 0
    ]
    new_leads = [{"campaign_id": str(each.campaign_id), "remaining": each.remaining} for each in budgets.new_leads]
    return {
        "day": budgets.day.date,
        "open_zones": zones_parameter(zones),
        "budgets": json.dumps(with_budget),
        "new_leads": json.dumps(new_leads),
    }


def _opening(hours: Hours, name: str, now: dt.datetime) -> Opening | None:
    tz = rules(name)
    return opening_at(hours, tz, now) if tz is not None else None
