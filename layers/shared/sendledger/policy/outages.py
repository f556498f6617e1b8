"""Which lanes are late after an outage: those that would have sent all that is overdue in them, had a sender run.

For a lane, the time counts in which its schedule was open and its caps left something. An email that waits for an
opening is not late. Nor are those of a lane in which more were due than its caps let go, when the outage began or until
it is late: there they wait for the caps, which also prevent a burst. Later steps of a sender come before its first
steps, as in a claim. Reads `campaigns`, `campaign_lanes`, `sending_schedules`, `sender_addresses`, `cap_uses` and
`scheduled_emails`.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
import math
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from sendledger.core.ledger_rules import has_lanes, is_pending, waits_in_lane
from sendledger.core.time_zones import zone
from sendledger.policy.budgets import HAS_CAP, uses_of
from sendledger.policy.caps import SendingDay, Use, merged, open_between, sending_day
from sendledger.policy.lanes import zones_in_use
from sendledger.policy.openings import Opening, openings
from sendledger.policy.sending_schedules import hours_of, rules, zone_that_counts

# What is held already waits for a person, and takes nothing of a cap.
_OVERDUE = f"""
    e.campaign_id = l.campaign_id AND e.lane = l.lane AND {waits_in_lane("e")} AND {is_pending("e")}
    AND e.scheduled_for > coalesce({{hold}}, '-infinity')
"""
_HOLD = "greatest(c.late_hold_until, l.late_hold_until)"
# ORDER BY and OFFSET 0: as in completion.py.
_LANES = sa.text(f"""
    SELECT l.campaign_id, l.lane, coalesce(l.time_zone, '') AS lead_zone, l.sender_id, l.follow_up,
           c.sending_schedule_id, c.new_leads_per_day, c.new_leads_per_company_per_day, {_HOLD} AS hold
    FROM campaigns c JOIN campaign_lanes l ON l.campaign_id = c.id
    LEFT JOIN sender_addresses a ON a.id = l.sender_id
    WHERE c.status = 'running' AND {has_lanes("c")} AND (a.id IS NULL OR a.status = 'active')
      AND EXISTS (SELECT FROM scheduled_emails e WHERE {_OVERDUE.format(hold=_HOLD)} AND e.scheduled_for <= :until
                  ORDER BY e.scheduled_for OFFSET 0)
""").bindparams(sa.bindparam("until", type_=sa.TIMESTAMP(timezone=True)))
_SENDERS = sa.text(f"""
    SELECT a.id, a.daily_cap, a.ramp, a.spread FROM sender_addresses a WHERE a.status = 'active' AND {HAS_CAP}
""")
_NEW_LEADS = sa.text("""
    SELECT u.campaign_id, CAST(sum(u.count) AS bigint) AS used FROM cap_uses u
    WHERE u.campaign_id = ANY(:ids) AND u.day = :day AND u.is_first GROUP BY 1
""").bindparams(sa.bindparam("ids", type_=sa.ARRAY(sa.UUID)), sa.bindparam("day", type_=sa.Date))
_GIVEN = """json_to_recordset(CAST(:lanes AS json))
    AS l (campaign_id uuid, lane smallint, hold timestamptz, until timestamptz, most bigint, company_room bigint,
          company_cap bigint)"""
_OVERDUE_IN_GIVEN = f"{_OVERDUE.format(hold='l.hold')} AND e.scheduled_for <= l.until"
_COUNT = sa.text(f"""
    SELECT l.campaign_id, l.lane, count(*) AS overdue, count(*) FILTER (WHERE scheduled_for <= :began) AS before
    FROM {_GIVEN} CROSS JOIN LATERAL (
        SELECT e.scheduled_for FROM scheduled_emails e WHERE {_OVERDUE_IN_GIVEN}
        ORDER BY e.scheduled_for, e.id LIMIT l.most) overdue
    GROUP BY 1, 2
""").bindparams(sa.bindparam("lanes", type_=sa.Text), sa.bindparam("began", type_=sa.TIMESTAMP(timezone=True)))
_SHORT_OF_COMPANIES = sa.text(f"""
    SELECT DISTINCT campaign_id FROM (
        SELECT l.campaign_id, e.lead_company, max(l.company_room) AS room, max(l.company_cap) AS cap,
               count(*) AS overdue, count(*) FILTER (WHERE e.scheduled_for <= :began) AS before
        FROM {_GIVEN} JOIN scheduled_emails e ON {_OVERDUE_IN_GIVEN}
        WHERE l.company_room IS NOT NULL AND e.lead_company IS NOT NULL GROUP BY 1, 2) waiting
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(c.count), 0) AS used FROM cap_uses c
        WHERE c.campaign_id = waiting.campaign_id AND c.day = :day AND c.is_first
          AND c.company = waiting.lead_company) u
    WHERE overdue > room - used OR before > cap - used
""").bindparams(
    sa.bindparam("lanes", type_=sa.Text),
    sa.bindparam("began", type_=sa.TIMESTAMP(timezone=True)),
    sa.bindparam("day", type_=sa.Date),
)


@dataclass(frozen=True)
class LateLane:
    """What was due in this lane at or before `until` is late."""

    campaign_id: uuid.UUID
    lane: int
    until: dt.datetime


@dataclass(frozen=True)
class _Missed:
    """What an outage took from a zone. What was due by `late_since` is late, as it was open for so long since.

    `days` has the part of the open time of each day that the outage took before then. None: nothing is late.
    """

    late_since: dt.datetime | None
    days: Mapping[dt.date, float]


@dataclass
class _Cap:
    """A cap that lanes have together, with the `days` of the outage, as in `_Missed`."""

    use: Use
    spread: bool = False
    days: dict[dt.date, float] = field(default_factory=dict)

    def room(self, first_day: dt.date) -> int:
        """How many emails it would have let go so early that they are late; `use` is that of the first day."""
        by_day = {
            day: math.floor((self.use.cap or 0) * part) if self.spread else self.use.cap or 0
            for day, part in self.days.items()
            if part > 0
        }
        return sum(min(most, max(0, self.use.left)) if day == first_day else most for day, most in by_day.items())


@dataclass
class _Lane:
    """A lane with overdue emails that was open for long enough, with the caps that limit it."""

    row: sa.RowMapping
    missed: _Missed
    until: dt.datetime
    sender: _Cap | None
    new_leads: _Cap | None
    """Only of a first step."""

    @property
    def place(self) -> tuple[uuid.UUID, int]:
        return self.row["campaign_id"], self.row["lane"]

    def parameters(self, first_day: dt.date) -> dict[str, Any]:
        """Those of `_GIVEN`. No more emails are counted than are needed to know whether the caps were short."""
        company_cap = None if self.row["follow_up"] else self.row["new_leads_per_company_per_day"]
        days = sum(part > 0 for part in self.missed.days.values())
        return {
            "campaign_id": str(self.row["campaign_id"]),
            "lane": self.row["lane"],
            "hold": self.row["hold"] and self.row["hold"].isoformat(),
            "until": self.until.isoformat(),
            "most": max((cap.room(first_day) for cap in (self.sender, self.new_leads) if cap is not None), default=0)
            + 1,
            "company_room": company_cap and company_cap * days,
            "company_cap": company_cap,
        }


def late_lanes(connection: sa.Connection, outage: Opening, late_after: dt.timedelta) -> list[LateLane]:
    """The lanes that are late after an outage, each with the time that its emails are late up to."""
    day_zone = zone(connection.execute(sa.text("SELECT sending_day_time_zone FROM sender_state")).scalar_one())
    days = [sending_day(outage.opens_at, day_zone)]
    while days[-1].ends_at < outage.closes_at:
        days.append(sending_day(days[-1].ends_at, day_zone))
    rows = connection.execute(_LANES, {"until": outage.closes_at - late_after}).mappings().all()
    lanes = _held_up(connection, rows, days, outage, late_after)
    if not lanes:
        return []
    first_day = days[0].date
    given = json.dumps([lane.parameters(first_day) for lane in lanes])
    parameters = {"lanes": given, "began": outage.opens_at}
    counts = connection.execute(_COUNT, parameters).all()
    overdue = {(row.campaign_id, row.lane): row.overdue for row in counts}
    before = {(row.campaign_id, row.lane): row.before for row in counts}
    short = set(connection.scalars(_SHORT_OF_COMPANIES, {**parameters, "day": first_day}))
    lanes = [lane for lane in lanes if lane.row["follow_up"] or lane.row["campaign_id"] not in short]
    waiting = _waiting_for_caps(lanes, before, lambda cap: max(0, cap.use.left))
    waiting |= _waiting_for_caps(lanes, overdue, lambda cap: cap.room(first_day))
    return [LateLane(*lane.place, lane.until) for lane in lanes if lane.place in overdue and lane.place not in waiting]


def _held_up(
    connection: sa.Connection,
    rows: Sequence[sa.RowMapping],
    days: Sequence[SendingDay],
    outage: Opening,
    late_after: dt.timedelta,
) -> list[_Lane]:
    """The lanes that were open, and had caps left, for so long."""
    zones: dict[tuple[uuid.UUID | None, str], _Missed] = {
        (row["id"], row["lead_zone"]): _missed(row, days, outage, late_after) for row in zones_in_use(connection)
    }
    always, nothing = _missed(None, days, outage, late_after), _Missed(None, {})
    senders = list(connection.execute(_SENDERS).mappings())
    uses = uses_of(connection, senders, days[0])
    by_sender = {row["id"]: _Cap(uses[row["id"]], row["spread"]) for row in senders}
    capped = {row["campaign_id"]: row["new_leads_per_day"] for row in rows if row["new_leads_per_day"] is not None}
    used = connection.execute(_NEW_LEADS, {"ids": list(capped), "day": days[0].date})
    by_campaign = {id_: _Cap(Use(cap)) for id_, cap in capped.items()}
    by_campaign |= {row.campaign_id: _Cap(Use(capped[row.campaign_id], row.used)) for row in used}
    found = []
    for row in rows:
        schedule_id = row["sending_schedule_id"]
        missed = zones.get((schedule_id, row["lead_zone"]), nothing) if schedule_id is not None else always
        sender = by_sender.get(row["sender_id"])
        new_leads = None if row["follow_up"] else by_campaign.get(row["campaign_id"])
        caps = [cap for cap in (sender, new_leads) if cap is not None]
        # A cap that was used up left nothing for the rest of its day.
        free_since = days[0].ends_at if any(cap.use.left <= 0 for cap in caps) else outage.opens_at
        for cap in caps:
            for day, part in missed.days.items():
                cap.days[day] = max(part, cap.days.get(day, 0.0))
        if missed.late_since is not None and missed.late_since >= free_since:
            found.append(_Lane(row, missed, missed.late_since, sender, new_leads))
    return found


def _missed(
    row: sa.RowMapping | None, days: Sequence[SendingDay], outage: Opening, late_after: dt.timedelta
) -> _Missed:
    """What the outage took from the zone of a schedule, or with None from a campaign that has no schedule."""
    tz = rules(zone_that_counts(row)) if row is not None else None
    by_day: list[list[Opening]] = []
    for day in days:
        if row is None:
            by_day.append([Opening(day.starts_at, day.ends_at)])
        else:
            by_day.append(
                merged(openings(hours_of(row), tz, day.starts_at, day.ends_at), day) if tz is not None else []
            )
    late_since = _since(itertools.chain.from_iterable(map(reversed, reversed(by_day))), outage, late_after)
    if late_since is None:
        return _Missed(None, {})
    parts = {}
    for day, own in zip(days, by_day, strict=True):
        whole = open_between(own, day.starts_at, day.ends_at)
        parts[day.date] = open_between(own, outage.opens_at, late_since) / whole if whole else 0.0
    return _Missed(late_since, parts)


def _since(latest_first: Iterable[Opening], outage: Opening, late_after: dt.timedelta) -> dt.datetime | None:
    """The last instant of the outage after which it was open for so long."""
    for each in latest_first:
        opens, closes = max(each.opens_at, outage.opens_at), min(each.closes_at, outage.closes_at)
        if opens < closes and closes - opens >= late_after:
            return closes - late_after
        late_after -= max(closes - opens, dt.timedelta(0))
    return None


def _waiting_for_caps(
    lanes: Iterable[_Lane], due: Mapping[tuple[uuid.UUID, int], int], room: Callable[[_Cap], int]
) -> set[tuple[uuid.UUID, int]]:
    """The lanes in which emails wait for a cap: more are due than it has room for."""
    found: set[tuple[uuid.UUID, int]] = set()
    groups: dict[tuple[uuid.UUID, bool], list[_Lane]] = defaultdict(list)
    for lane in lanes:
        groups[lane.row["campaign_id"], lane.row["follow_up"]].append(lane)
    asked: Counter[tuple[uuid.UUID | None, bool]] = Counter()
    for (_, follow_up), own in groups.items():
        by_sender: Counter[uuid.UUID | None] = Counter()
        for lane in own:
            by_sender[lane.row["sender_id"]] += due.get(lane.place, 0)
        most = room(own[0].new_leads) if own[0].new_leads is not None else by_sender.total()
        if by_sender.total() > most:
            found.update(lane.place for lane in own)
        for sender_id, count in by_sender.items():
            asked[sender_id, follow_up] += min(count, most)
    for lane in lanes:
        sender_id, follow_up = lane.row["sender_id"], lane.row["follow_up"]
        first = asked[sender_id, True] + (0 if follow_up else asked[sender_id, False])
        if lane.sender is not None and first > room(lane.sender):
            found.add(lane.place)
    return found
