"""Budgets: how many emails may still go from each sender, and to how many new leads of each campaign, now and today.

Emails of the day count that are on their way, sent or of unknown outcome. A trigger of `scheduled_emails` writes what
each statement changes of that to `cap_uses`, whatever the statement. So a returned email does not count any more, and
one that was queued again after an unknown outcome still counts. A claim locks the rows of its senders, and the
campaigns with a cap of new leads, before it counts, so that overlapping claims never exceed a cap together. Reads
`sender_addresses`, `campaigns`, `campaign_lanes`, `sending_schedules`, `sender_state` and `scheduled_emails`; reads and
folds `cap_uses`.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from sendledger.core.kept_statements import KEPT
from sendledger.core.ledger_rules import is_pending, waits_in_lane
from sendledger.core.time_zones import zone
from sendledger.policy import caps
from sendledger.policy.caps import SendingDay, Use
from sendledger.policy.openings import Opening, openings
from sendledger.policy.sending_schedules import hours_of, rules, zone_that_counts

LAST_CALLS = dt.timedelta(seconds=2)
"""How long before the end of an opening or a day nothing more is claimed: what has passed the fence takes a second to
go out."""

DAYS_KEPT = dt.timedelta(days=30)
"""How long what counts against the caps is kept by campaign, after its day."""

_UNLIMITED = Use(None)
_UUIDS = sa.ARRAY(sa.UUID)

_NOBODY = uuid.UUID(int=0)
_NO_ID = f"CAST('{_NOBODY}' AS uuid)"
_REVISIONS = "SELECT coalesce(sum(revision), 0) FROM sending_schedules"
_IS_ACTIVE = """
    a.status = 'active' AND EXISTS (SELECT FROM campaigns c WHERE c.status = 'running' AND a.id = ANY(c.sender_ids))
"""


def new_leads_key(campaign_id: str) -> str:
    """The key of the advisory lock of whoever counts new leads of a campaign."""
    return f"hashtextextended('new leads ' || {campaign_id}::text, 0)"


HAS_CAP = "(a.daily_cap IS NOT NULL OR a.ramp IS NOT NULL)"
"""Whether a sender `a` has a cap."""


def _now(locks: str, locked: str) -> sa.TextClause:
    return sa.text(f"""{KEPT}{locks}
    SELECT now() AS now, sending_day_time_zone AS time_zone, {locked} AS locked,
           EXISTS (SELECT FROM campaigns c WHERE c.status = 'running' AND c.sender_ids <> '{{}}') AS has_senders,
           EXISTS (SELECT FROM campaigns c WHERE c.status = 'running' AND c.new_leads_per_day IS NOT NULL
                   OR c.status = 'running' AND c.new_leads_per_company_per_day IS NOT NULL) AS has_new_leads,
           ({_REVISIONS}) AS revisions
    FROM sender_state""")


_NOW = _now("", "CAST(NULL AS uuid[])")
# Not FOR UPDATE: a start that writes lanes of this sender, for seconds, holds its row FOR KEY SHARE. What the statement
# says beside the locks may be older than they are.
_NOW_AND_LOCK = _now(
    f"""
    WITH locked AS MATERIALIZED (
        SELECT a.id FROM sender_addresses a WHERE {_IS_ACTIVE} AND {HAS_CAP} ORDER BY a.id FOR NO KEY UPDATE OF a
    )""",
    "(SELECT array_agg(id) FROM locked)",
)
# Locks that no claim waits for. MATERIALIZED, as a lock is taken for each row that is looked at.
_LOCK_NEW_LEADS = sa.text(f"""
    WITH capped AS MATERIALIZED (
        SELECT c.id FROM campaigns c WHERE c.status = 'running'
           AND (c.new_leads_per_day IS NOT NULL OR c.new_leads_per_company_per_day IS NOT NULL)
    )
    SELECT id FROM capped
    WHERE pg_try_advisory_xact_lock({new_leads_key("id")})
""")
_ACTIVE = sa.text(f"""{KEPT}
    SELECT a.id, a.daily_cap, a.ramp, a.spread FROM sender_addresses a
    WHERE {_IS_ACTIVE} AND (NOT :lock OR NOT {HAS_CAP} OR a.id = ANY(:locked))
""").bindparams(sa.bindparam("lock", type_=sa.Boolean), sa.bindparam("locked", type_=_UUIDS))
_USED_BY_CAMPAIGN = """
    SELECT u.sender_id, u.campaign_id, CAST(sum(u.count) AS bigint) AS used,
           min(u.first_at) AS first, max(u.last_at) AS last
    FROM cap_uses u WHERE u.sender_id = ANY(:senders) AND u.day = :day GROUP BY 1, 2 HAVING sum(u.count) > 0
"""
_USED_BY_EACH, _USED_BY_SENDER = (
    sa.text(sql).bindparams(sa.bindparam("senders", type_=_UUIDS), sa.bindparam("day", type_=sa.Date))
    for sql in (
        _USED_BY_CAMPAIGN,
        f"""{KEPT}
        SELECT sender_id, CAST(sum(used) AS bigint) AS used, min(first) AS first, max(last) AS last
        FROM ({_USED_BY_CAMPAIGN}) of_campaign GROUP BY 1""",
    )
)
_USED_BY_NEW_LEADS = sa.text("""
    SELECT c.id, c.new_leads_per_day - coalesce(u.used, 0) AS remaining, u.by_sender
    FROM campaigns c CROSS JOIN LATERAL (
        SELECT CAST(sum(used) AS bigint) AS used, json_object_agg(sender_id, used) AS by_sender
        FROM (SELECT u.sender_id, CAST(sum(u.count) AS bigint) AS used FROM cap_uses u
              WHERE c.new_leads_per_day IS NOT NULL AND u.campaign_id = c.id AND u.day = :day AND u.is_first
              GROUP BY 1) of_sender) u
    WHERE c.status = 'running'
       AND (c.new_leads_per_day IS NOT NULL OR c.new_leads_per_company_per_day IS NOT NULL)
       AND (NOT :lock OR c.id = ANY(:locked))
""").bindparams(
    sa.bindparam("day", type_=sa.Date),
    sa.bindparam("lock", type_=sa.Boolean),
    sa.bindparam("locked", type_=_UUIDS),
)
# From one day to the one before it, by the index: a sender may have years of days.
_DAYS_SENT = sa.text("""
    WITH RECURSIVE days (sender_id, day, number) AS (
        SELECT a.id, CAST(:day AS date), 0 FROM unnest(:senders) a (id)
        UNION ALL
        SELECT d.sender_id, earlier.day, d.number + 1 FROM days d CROSS JOIN LATERAL (
            SELECT u.day FROM cap_uses u
            WHERE u.sender_id = d.sender_id AND u.day < d.day
              AND (SELECT sum(same.count) FROM cap_uses same
                   WHERE same.sender_id = u.sender_id AND same.day = u.day) > 0
            ORDER BY u.day DESC LIMIT 1) earlier (day)
        WHERE d.number < :most
    )
    SELECT sender_id, max(number) AS number FROM days GROUP BY sender_id
""").bindparams(sa.bindparam("senders", type_=_UUIDS), sa.bindparam("day", type_=sa.Date))
# LATERAL, so that the rows of each are found by the index of campaigns: by that of senders the planner compares all
# that a sender has on a day with each other. What another one is folding is left alone. So each change gets into one
# total, whatever runs beside.
_FOLD = sa.text("""
    WITH changed AS MATERIALIZED (
        SELECT DISTINCT sender_id, campaign_id, day, is_first, company FROM cap_uses WHERE NOT is_total
    ), taken AS MATERIALIZED (
        SELECT own.id FROM changed c CROSS JOIN LATERAL (
            SELECT u.id FROM cap_uses u
            WHERE u.campaign_id = c.campaign_id AND u.day = c.day AND u.company = c.company
              AND u.sender_id = c.sender_id AND u.is_first = c.is_first
            FOR UPDATE SKIP LOCKED) own
    ), gone AS (
        DELETE FROM cap_uses u USING taken WHERE u.id = taken.id RETURNING u.*
    )
    INSERT INTO cap_uses (sender_id, campaign_id, day, is_first, company, count, first_at, last_at, is_total)
    SELECT sender_id, campaign_id, day, is_first, company, sum(count), min(first_at), max(last_at), true FROM gone
    GROUP BY 1, 2, 3, 4, 5 HAVING sum(count) <> 0
""")
# A ramp counts the days on which a sender has sent; the rest of what was used then is asked no more.
_FORGET_DAYS = sa.text(f"""
    WITH gone AS (
        DELETE FROM cap_uses WHERE is_total AND campaign_id <> {_NO_ID} AND day < :before
        RETURNING sender_id, day, count
    )
    INSERT INTO cap_uses (sender_id, campaign_id, day, is_first, company, count, is_total)
    SELECT sender_id, {_NO_ID}, day, false, 0, sum(count), true FROM gone
    WHERE sender_id <> {_NO_ID} GROUP BY sender_id, day HAVING sum(count) <> 0
""").bindparams(sa.bindparam("before", type_=sa.Date))
# Where emails of the day wait: by sender, schedule and the zone of the leads.
_WAITING = sa.text(f"""
    SELECT l.sender_id, s.id, s.revision, s.time_zone, s.zone_of, s.hours, s.holidays, l.lead_zone
    FROM (
        SELECT DISTINCT l.sender_id, c.sending_schedule_id, coalesce(l.time_zone, '') AS lead_zone
        FROM campaigns c JOIN campaign_lanes l ON l.campaign_id = c.id
        WHERE c.status = 'running' AND l.sender_id = ANY(:senders)
          AND EXISTS (SELECT FROM scheduled_emails p WHERE p.campaign_id = c.id AND p.lane = l.lane
                      AND {waits_in_lane("p")} AND {is_pending("p")} AND p.scheduled_for < :until)
    ) l LEFT JOIN sending_schedules s ON s.id = l.sending_schedule_id
""").bindparams(sa.bindparam("senders", type_=_UUIDS), sa.bindparam("until", type_=sa.TIMESTAMP(timezone=True)))


@dataclass(frozen=True)
class Budget:
    """How many emails may go from a sender now, and until when what is claimed now may go."""

    sender_id: uuid.UUID
    remaining: int
    until: dt.datetime
    next_release: dt.datetime
    """When the next one may go, if nothing goes meanwhile. It is now, if `remaining` is more than 0."""


@dataclass(frozen=True)
class NewLeads:
    """How many leads of a campaign may still get their first email today; None: a cap for each company only."""

    campaign_id: uuid.UUID
    remaining: int | None
    until: dt.datetime
    _sent: Mapping[str, int] = field(default_factory=dict)
    """How many have got it, by sender."""

    def sent_by(self, sender_id: uuid.UUID | None) -> int:
        """How many of them a sender has written to today; None: of a campaign without senders."""
        return self._sent.get(str(sender_id or _NOBODY), 0)

    @property
    def has_some(self) -> bool:
        return self.remaining is None or self.remaining > 0


@dataclass(frozen=True)
class Budgets:
    """What is left of the caps of active senders and running campaigns on a day."""

    day: SendingDay
    senders: Sequence[Budget] = ()
    new_leads: Sequence[NewLeads] = ()
    revisions: int = 0
    """The sum of the revisions of all sending schedules: another one means that one of them has changed."""


@dataclass
class SpreadBudgets:
    """What a tick knows of senders that spread their budget."""

    hours: dict[uuid.UUID, list[Opening]] = field(default_factory=dict)
    """When they have something to send today, as finding it takes time."""
    _hours_are_of: tuple[dt.date, int] | None = None
    """The day, and the revisions of the schedules."""
    _released: dict[uuid.UUID, tuple[dt.datetime, int]] = field(default_factory=dict)
    """A minute, and how many emails of the day each may have sent by its end."""

    def forget_hours_unless_of(self, date: dt.date, revisions: int) -> None:
        """Those of another day, and of schedules that have changed, are to be found anew."""
        if self._hours_are_of != (date, revisions):
            self.hours.clear()
            self._hours_are_of = date, revisions

    def remaining(self, sender_id: uuid.UUID, use: Use, now: dt.datetime) -> int:
        """What may go now. What a minute releases may go until it ends: a claim of later steps leaves some of it to the
        next claim."""
        minute, most = caps.minute_of(now), use.used + caps.released(use, self.hours[sender_id], now)
        before = self._released.get(sender_id)
        if before is not None and before[0] == minute:
            most = max(most, before[1])
        self._released[sender_id] = minute, most
        return min(use.left, most - use.used)


def sending_day_now(connection: sa.Connection) -> SendingDay:
    """The day of the caps that it is now."""
    row = connection.execute(sa.text("SELECT now(), sending_day_time_zone FROM sender_state")).one()
    return caps.sending_day(row[0], zone(row[1]))


def schedule_revisions(connection: sa.Connection) -> int:
    """The sum of the revisions of all sending schedules."""
    return int(connection.execute(sa.text(_REVISIONS)).scalar_one())


def fold(connection: sa.Connection) -> None:
    """Add the latest changes to their totals. Every reader sees the same sums before and after."""
    connection.execute(_FOLD)


def forget_days(connection: sa.Connection) -> None:
    """Of days that are long over, keep one number for each sender."""
    today = sending_day_now(connection).date
    connection.execute(_FORGET_DAYS, {"before": today - DAYS_KEPT})


def budgets(connection: sa.Connection, *, lock: bool = False, spread: SpreadBudgets | None = None) -> Budgets:
    """What the active senders of running campaigns may send now, and what is left of the caps of new leads.

    With `lock` nobody else counts them until the transaction ends. These locks are taken before the campaigns and rows
    of a claim, which then waits for no other lock: so no two transactions wait for each other. `spread` is what a tick
    keeps from claim to claim.
    """
    state = connection.execute(_NOW_AND_LOCK if lock else _NOW).one()
    day = caps.sending_day(state.now, zone(state.time_zone))
    nothing = Budgets(day, revisions=state.revisions)
    if not (state.has_senders or state.has_new_leads):
        return nothing
    until = day.ends_at - LAST_CALLS
    if state.now >= until:
        return nothing
    # A sender that has become active, or got its cap, since they were locked has no budget until the next claim. Nor
    # has a campaign whose new leads another claim is counting.
    counting = list(connection.scalars(_LOCK_NEW_LEADS)) if lock and state.has_new_leads else []
    senders: list[Budget] = []
    if state.has_senders:
        spread = spread or SpreadBudgets()
        spread.forget_hours_unless_of(day.date, state.revisions)
        rows = list(connection.execute(_ACTIVE, {"lock": lock, "locked": state.locked or []}).mappings())
        senders = _budgets_of(connection, rows, day, state.now, spread)
    new_leads: list[NewLeads] = []
    if state.has_new_leads:
        found = connection.execute(_USED_BY_NEW_LEADS, {"day": day.date, "lock": lock, "locked": counting})
        new_leads = [NewLeads(row.id, row.remaining, until, row.by_sender or {}) for row in found]
    return Budgets(day, senders, new_leads, state.revisions)


def uses_of(
    connection: sa.Connection, senders: Collection[sa.RowMapping | dict[str, Any]], day: SendingDay
) -> dict[uuid.UUID, Use]:
    """The caps of these senders on a day, and what they have used of it. `senders` are rows of `sender_addresses`."""
    ids = [row["id"] for row in senders]
    found = {}
    if ids:
        found = {row.sender_id: row for row in connection.execute(_USED_BY_SENDER, {"senders": ids, "day": day.date})}
    ramps = {row["id"]: ramp for row in senders if (ramp := caps.ramp_of(row["ramp"])) is not None}
    days_sent: dict[uuid.UUID, int] = {}
    if ramps:
        most = max(ramp.days for ramp in ramps.values())
        counted = connection.execute(_DAYS_SENT, {"senders": list(ramps), "day": day.date, "most": most})
        days_sent = {row.sender_id: row.number for row in counted}
    uses = {}
    for row in senders:
        cap = caps.cap_of_day(row["daily_cap"], ramps.get(row["id"]), days_sent.get(row["id"], 0))
        own = found.get(row["id"])
        uses[row["id"]] = Use(cap) if own is None else Use(cap, own.used, own.first, own.last)
    return uses


def used_by_campaign(
    connection: sa.Connection, sender_ids: Collection[uuid.UUID], day: SendingDay
) -> dict[uuid.UUID | None, Counter[uuid.UUID]]:
    """How much of the caps of these senders each campaign has used on a day. A campaign that has used none is 0."""
    found: dict[uuid.UUID | None, Counter[uuid.UUID]] = {sender_id: Counter() for sender_id in sender_ids}
    for row in connection.execute(_USED_BY_EACH, {"senders": list(sender_ids), "day": day.date}):
        found[row.sender_id][row.campaign_id] = row.used
    return found


def open_hours_of_day(
    connection: sa.Connection, sender_ids: Sequence[uuid.UUID], day: SendingDay
) -> dict[uuid.UUID, list[Opening]]:
    """When on a day these senders may send something of what waits in running campaigns, in order and merged."""
    found: dict[uuid.UUID, list[Opening]] = {id_: [] for id_ in sender_ids}
    for row in connection.execute(_WAITING, {"senders": list(sender_ids), "until": day.ends_at}).mappings():
        if row["id"] is None:
            found[row["sender_id"]].append(Opening(day.starts_at, day.ends_at))
        elif (tz := rules(zone_that_counts(row))) is not None:
            found[row["sender_id"]] += openings(hours_of(row), tz, day.starts_at, day.ends_at)
    return {sender_id: caps.merged(spans, day) for sender_id, spans in found.items()}


def _budgets_of(
    connection: sa.Connection,
    rows: Sequence[sa.RowMapping],
    day: SendingDay,
    now: dt.datetime,
    spread: SpreadBudgets,
) -> list[Budget]:
    capped = [row for row in rows if row["daily_cap"] is not None or row["ramp"] is not None]
    uses = uses_of(connection, capped, day)
    spreading = {row["id"] for row in capped if row["spread"] and uses[row["id"]].left > 0}
    if unknown := [id_ for id_ in spreading if id_ not in spread.hours]:
        spread.hours.update(open_hours_of_day(connection, unknown, day))
    found, until = [], day.ends_at - LAST_CALLS
    for row in rows:
        use = uses.get(row["id"], _UNLIMITED)
        remaining, next_release = use.left, now if use.left > 0 else day.ends_at
        if row["id"] in spreading:
            remaining = spread.remaining(row["id"], use, now)
            next_release = now if remaining > 0 else caps.next_release(use, spread.hours[row["id"]], now)
        found.append(Budget(row["id"], remaining, until, next_release))
    return found
