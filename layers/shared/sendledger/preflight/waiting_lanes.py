"""What the emails of a campaign with a sending policy wait for: an opening, a sender's next day, or a person.

Reads `campaign_lanes`, `sending_schedules`, `sender_addresses`, `leads` and `scheduled_emails`.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from sendledger.core.ledger_rules import held_until, is_pending, waits_in_lane
from sendledger.core.vocabulary import SenderAddressStatus
from sendledger.policy.budgets import budgets
from sendledger.policy.companies import rows_by_company
from sendledger.policy.openings import next_opening
from sendledger.policy.sending_schedules import hours_of, rules, zone_that_counts

_LANES = sa.text(f"""
    WITH lane AS MATERIALIZED (
        SELECT l.campaign_id, l.lane, l.time_zone, l.sender_id, l.follow_up,
               CASE WHEN NOT l.follow_up THEN c.new_leads_per_company_per_day END AS company_cap,
               {held_until("c", "l")} AS late_hold_until
        FROM campaigns c JOIN campaign_lanes l ON l.campaign_id = c.id WHERE c.id = :campaign_id
    )
    SELECT lane.lane, coalesce(lane.time_zone, '') AS lead_zone, s.id AS schedule_id, s.time_zone, s.zone_of, s.hours,
           s.holidays, now() AS now, a.id AS sender_id, a.status AS sender_status, lane.follow_up,
           (SELECT min(e.scheduled_for) FROM scheduled_emails e
            WHERE e.campaign_id = lane.campaign_id AND e.lane = lane.lane AND {waits_in_lane("e")} AND {is_pending("e")}
              AND e.scheduled_for > lane.late_hold_until) AS first_due,
           lane.company_cap IS NULL OR EXISTS ({rows_by_company("lane", "1")}) AS has_company
    FROM lane JOIN campaigns c ON c.id = lane.campaign_id
    LEFT JOIN sending_schedules s ON s.id = c.sending_schedule_id
    LEFT JOIN sender_addresses a ON a.id = lane.sender_id
    ORDER BY lane.lane
""").bindparams(
    sa.bindparam("campaign_id", type_=sa.UUID),
    sa.bindparam("day", type_=sa.Date),
)


@dataclass(frozen=True)
class WaitingLane:
    """Emails of a campaign that may go at the same times. `sender_id` is None in a campaign without senders."""

    time_zone: str
    sender_id: uuid.UUID | None
    first_due: dt.datetime
    opens_at: dt.datetime | None
    """When the schedule is open for the first of them; None: never."""
    is_disabled: bool
    has_budget: bool
    """Whether the cap of its sender leaves something for that day."""
    has_new_leads: bool
    """Whether the caps of new leads do."""
    goes_at: dt.datetime | None
    """When the first of them may go; None: never, or when somebody lets the sender go on."""


@dataclass(frozen=True)
class Waiting:
    """What all emails that are due wait for. `until` is None where somebody has to act."""

    cause: str | None
    message: str
    until: dt.datetime | None
    detail: Mapping[str, object]


def waiting_lanes(connection: sa.Connection, campaign_id: uuid.UUID) -> list[WaitingLane]:
    """The lanes of a campaign in which emails are pending; of one without a policy there are none.

    Held emails do not count.
    """
    found = []
    left = budgets(connection)
    senders = {each.sender_id: each for each in left.senders}
    new_leads = {each.campaign_id: each.remaining for each in left.new_leads}.get(campaign_id)
    parameters = {"campaign_id": campaign_id, "day": left.day.date}
    for row in connection.execute(_LANES, parameters).mappings():
        if row["first_due"] is None:
            continue
        earliest = max(row["first_due"], row["now"])
        is_disabled = row["sender_status"] == SenderAddressStatus.DISABLED
        is_today = earliest < left.day.ends_at
        budget = senders.get(row["sender_id"])
        released_at = budget.next_release if budget is not None else left.day.ends_at
        has_budget = row["sender_id"] is None or not is_today or released_at < left.day.ends_at
        has_some_left = new_leads is None or new_leads > 0
        has_new_leads = not is_today or row["follow_up"] or (has_some_left and row["has_company"])
        from_then = max(earliest, released_at) if row["sender_id"] is not None and is_today else earliest
        if not has_new_leads:
            from_then = left.day.ends_at
        found.append(
            WaitingLane(
                time_zone=zone_that_counts(row) if row["schedule_id"] is not None else "",
                sender_id=row["sender_id"],
                first_due=row["first_due"],
                opens_at=_open_from(row, earliest),
                is_disabled=is_disabled,
                has_budget=has_budget,
                has_new_leads=has_new_leads,
                goes_at=None if is_disabled else _open_from(row, from_then),
            )
        )
    return found


def _open_from(row: sa.RowMapping, earliest: dt.datetime) -> dt.datetime | None:
    """The first instant from then on at which the schedule is open."""
    if row["schedule_id"] is None:
        return earliest
    tz = rules(zone_that_counts(row))
    opening = next_opening(hours_of(row), tz, earliest) if tz is not None else None
    return max(opening.opens_at, earliest) if opening is not None else None


def what_due_emails_wait_for(lanes: Sequence[WaitingLane], now: dt.datetime) -> Waiting | None:
    """None where something may go now, or nothing waits."""
    due = [lane for lane in lanes if lane.first_due <= now]
    if not due or any(lane.goes_at is not None and lane.goes_at <= now for lane in due):
        return None
    until = min((lane.goes_at for lane in due if lane.goes_at is not None), default=None)
    is_open = [lane for lane in due if lane.opens_at is not None and lane.opens_at <= now]
    senders = {"sender_ids": sorted({str(lane.sender_id) for lane in is_open})}
    if not is_open:
        opens = {lane.time_zone: lane.opens_at.isoformat() for lane in due if lane.opens_at is not None}
        message = "Emails are due, but its sending schedule is closed."
        return Waiting("window_closed", message, until, {"next_openings": dict(sorted(opens.items()))})
    active = [lane for lane in is_open if not lane.is_disabled]
    if not active:
        message = "Emails are due, but their senders are disabled. Make them active again."
        return Waiting("sender_disabled", message, until, senders)
    with_budget = [lane for lane in active if lane.has_budget]
    if not with_budget:
        message = "Emails are due, but its senders have sent as many as their caps allow. They go on tomorrow."
        return Waiting("sender_cap_reached", message, until, senders)
    if not any(lane.has_new_leads for lane in with_budget):
        message = "Emails are due, but as many new leads have got one today as its caps allow. It goes on tomorrow."
        return Waiting("new_leads_cap_reached", message, until, {})
    message = "Emails are due. Their senders spread the budget of the day over their open hours."
    return Waiting(None, message, until, senders)
