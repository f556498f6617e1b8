"""Which lane the emails of a campaign with a sending policy wait in; the leads are split over its senders here.

Reads `leads` and `scheduled_emails`; writes `campaign_lanes`. The caller has locked the campaign.
"""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from sendledger.core.ledger_rules import address_of
from sendledger.core.tables import campaign_lanes, leads, scheduled_emails
from sendledger.core.time_zones import zone_of_lead
from sendledger.policy.business_days import due_times
from sendledger.policy.companies import company_sql, free_mail
from sendledger.policy.lanes import LaneKey, write_lanes

NO_LANE = 0
"""The lane of emails of a campaign without a sending policy."""


def has_policy(campaign: sa.RowMapping | dict[str, Any]) -> bool:
    """Whether a campaign has a sending schedule, senders or caps; `ledger_rules.has_lanes` is the same in SQL."""
    return campaign["sending_schedule_id"] is not None or _has_senders_or_caps(campaign)


def waits_in_lanes(connection: sa.Connection, campaign: sa.RowMapping) -> bool:
    """Whether the emails of a campaign get lanes: it has a policy, or had caps and may get them again."""
    return has_policy(campaign) or parts_steps(connection, campaign["id"])


def parts_steps(connection: sa.Connection, campaign_id: uuid.UUID) -> bool:
    """Whether a campaign has separate lanes for first and later steps, from its start on."""
    follow_up = sa.select(campaign_lanes.c.lane).where(campaign_lanes.c.campaign_id == campaign_id)
    return connection.scalar(follow_up.where(campaign_lanes.c.follow_up).limit(1)) is not None


def _has_senders_or_caps(campaign: sa.RowMapping | dict[str, Any]) -> bool:
    caps = (campaign["new_leads_per_day"], campaign["new_leads_per_company_per_day"])
    return bool(campaign["sender_ids"]) or caps != (None, None)


def senders_of_new_leads(campaign: sa.RowMapping) -> list[uuid.UUID]:
    """The senders that the leads of a campaign take turns at; one that has handed its leads over gets no new ones."""
    return [each for each in campaign["sender_ids"] if each not in campaign["former_sender_ids"]]


def lanes_of_places(
    connection: sa.Connection, campaign: sa.RowMapping, places: Iterable[sa.Row[Any]], start_at: dt.datetime
) -> dict[str, Any]:
    """Parameters of the statement that writes a bucket of the audience, with these time zones and countries of leads.

    `places` says the zone of each time zone and country, `lanes` the lanes of first and later steps for each zone and
    position of a sender. If steps wait for business days, `times` says when they are due in each zone. The leads take
    turns at the `senders`; those of the buckets before, `leads_before`, count too. If the campaign may have caps of new
    leads (`part_steps`), first steps note the lead's company.
    """
    parameters: dict[str, Any] = {"leads_before": campaign["total_leads_targeted"]}
    if not waits_in_lanes(connection, campaign):
        return parameters
    zones = {(time_zone, country): zone_of_lead(time_zone, country).name for time_zone, country in map(tuple, places)}
    sender_ids = senders_of_new_leads(campaign)
    parted = _has_senders_or_caps(campaign) or parts_steps(connection, campaign["id"])
    lanes = write_lanes(
        connection, campaign["id"], [zone for zone in zones.values() if zone], sender_ids, part_steps=parted
    )
    known = [
        {"time_zone": time_zone, "country": country, "zone": zone}
        for (time_zone, country), zone in zones.items()
        if zone
    ]
    lanes_of = [
        {
            "zone": zone,
            "position": position,
            "first_lane": lane,
            "later_lane": lanes.get(LaneKey(zone, sender_id, follow_up=True), lane),
        }
        for (zone, sender_id, follow_up), lane in lanes.items()
        for position, each in enumerate(sender_ids or [None])
        if each == sender_id and not follow_up
    ]
    parameters |= {
        "places": json.dumps(known),
        "lanes": json.dumps(lanes_of),
        "senders": len(sender_ids) or 1,
        "part_steps": parted,
        "free_mail": free_mail() if parted else "",
    }
    if times := due_times(connection, campaign["id"], {zone or "" for zone in zones.values()}, start_at):
        parameters["times"] = json.dumps(times)
    return parameters


def lane_of_lead(connection: sa.Connection, campaign: sa.RowMapping, lead_id: uuid.UUID, step_number: int) -> int:
    """The lane of one further email to a lead. A lead keeps the sender that it has; a new one gets the next."""
    if not waits_in_lanes(connection, campaign):
        return NO_LANE
    lead = connection.execute(sa.select(leads.c.time_zone, leads.c.country).where(leads.c.id == lead_id)).one()
    zone, sender_ids = zone_of_lead(lead.time_zone, lead.country).name or "", list(campaign["sender_ids"])
    parted = _has_senders_or_caps(campaign) or parts_steps(connection, campaign["id"])
    lanes = write_lanes(connection, campaign["id"], [zone], sender_ids, part_steps=parted)
    if not sender_ids:
        return lanes[LaneKey(zone, None, parted and step_number > 1)]
    own = sa.select(campaign_lanes.c.sender_id).join(
        scheduled_emails,
        sa.and_(
            scheduled_emails.c.campaign_id == campaign_lanes.c.campaign_id,
            scheduled_emails.c.lane == campaign_lanes.c.lane,
        ),
    )
    of_lead = scheduled_emails.c.lead_id == lead_id, scheduled_emails.c.campaign_id == campaign["id"]
    sender_id = connection.scalar(own.where(*of_lead).limit(1))
    if sender_id is None:
        in_turn = senders_of_new_leads(campaign)
        sender_id = in_turn[campaign["total_leads_targeted"] % len(in_turn)]
    return lanes[LaneKey(zone, sender_id, step_number > 1)]


def company_of_lead(connection: sa.Connection, campaign: sa.RowMapping, lead_id: uuid.UUID) -> int | None:
    """The company that a first step to this lead counts for, if the campaign may have caps of new leads."""
    if not (_has_senders_or_caps(campaign) or parts_steps(connection, campaign["id"])):
        return None
    query = sa.text(f"SELECT {company_sql(address_of('l'))} FROM leads l WHERE l.id = :id")
    query = query.bindparams(sa.bindparam("id", lead_id, sa.UUID), sa.bindparam("free_mail", free_mail(), sa.Text))
    company: int | None = connection.scalar(query)
    return company
