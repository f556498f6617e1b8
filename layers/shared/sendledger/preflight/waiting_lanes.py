"""What the emails of a campaign with a sending policy wait for: an opening, a sender's next day, or a person.

Reads `campaign_lanes`, `sending_schedules`, `sender_addresses` and `scheduled_emails`.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from sendledger.core.ledger_rules import is_pending
from sendledger.core.vocabulary import SenderAddressStatus
from sendledger.policy.budgets import USED
from sendledger.policy.lanes import rules, zone_that_counts
from sendledger.policy.openings import next_opening
from sendledger.policy.sending_schedules import hours_of

_LANES = sa.text(f"""
    WITH sender AS MATERIALIZED (
        SELECT a.id, a.address, a.status, CASE WHEN a.daily_cap IS NOT NULL THEN a.daily_cap - {USED} END AS remaining
        FROM sender_addresses a JOIN campaigns c ON a.id = ANY(c.sender_ids) WHERE c.id = :campaign_id
    )
    SELECT l.lane, coalesce(l.time_zone, '') AS lead_zone, s.id AS schedule_id, s.time_zone, s.zone_of, s.hours,
           s.holidays, now() AS now, date_trunc('day', now(), 'UTC') + interval '1 day' AS day_ends,
           a.id AS sender_id, a.status AS sender_status, a.remaining,
           (SELECT min(e.scheduled_for) FROM scheduled_emails e
            WHERE e.campaign_id = l.campaign_id AND e.lane = l.lane AND e.lane > 0 AND {is_pending("e")}
              AND e.scheduled_for > coalesce(c.late_hold_until, '-infinity')) AS first_due
    FROM campaigns c JOIN campaign_lanes l ON l.campaign_id = c.id
    LEFT JOIN sending_schedules s ON s.id = c.sending_schedule_id
    LEFT JOIN sender a ON a.id = l.sender_id
    WHERE c.id = :campaign_id ORDER BY l.lane
""").bindparams(sa.bindparam("campaign_id", type_=sa.UUID))


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
    goes_at: dt.datetime | None
    """When the first of them may go; None: never, or when somebody lets the sender go on."""


@dataclass(frozen=True)
class Waiting:
    """What all emails that are due wait for. `until` is None where somebody has to act."""

    cause: str
    message: str
    until: dt.datetime | None
    detail: dict[str, object]


def waiting_lanes(connection: sa.Connection, campaign_id: uuid.UUID) -> list[WaitingLane]:
    """The lanes of a campaign in which emails are pending; of one without a policy there are none.

    Held emails do not count.
    """
    found = []
    for row in connection.execute(_LANES, {"campaign_id": campaign_id}).mappings():
        if row["first_due"] is None:
            continue
        earliest = max(row["first_due"], row["now"])
        is_disabled = row["sender_status"] == SenderAddressStatus.DISABLED
        has_budget = row["remaining"] is None or row["remaining"] > 0 or earliest >= row["day_ends"]
        found.append(
            WaitingLane(
                time_zone=zone_that_counts(row) if row["schedule_id"] is not None else "",
                sender_id=row["sender_id"],
                first_due=row["first_due"],
                opens_at=_open_from(row, earliest),
                is_disabled=is_disabled,
                has_budget=has_budget,
                goes_at=None if is_disabled else _open_from(row, earliest if has_budget else row["day_ends"]),
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
    senders = sorted({str(lane.sender_id) for lane in is_open})
    if not is_open:
        opens = {lane.time_zone: lane.opens_at.isoformat() for lane in due if lane.opens_at is not None}
        message = "Emails are due, but its sending schedule is closed."
        return Waiting("window_closed", message, until, {"next_openings": dict(sorted(opens.items()))})
    if any(not lane.is_disabled for lane in is_open):
        message = "Emails are due, but its senders have sent as many as their daily caps allow. They go on tomorrow."
        return Waiting("sender_cap_reached", message, until, {"sender_ids": senders})
    message = "Emails are due, but their senders are disabled. Make them active again."
    return Waiting("sender_disabled", message, until, {"sender_ids": senders})
