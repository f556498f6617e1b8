"""When will a campaign's emails go? A forecast day by day, with what keeps more from going.

The emails that wait are counted in SQL, by lane, step and due time; policy/simulate_days.py simulates the days.
Before a start the audience is counted instead. Steps that depend on what becomes of an earlier one are counted as sent.
Reads `campaigns`, their steps and lanes, `scheduled_emails`, `sender_addresses`, and what a start would read.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from botocore.exceptions import BotoCoreError, ClientError

from sendledger.campaigns.audience import audience_of
from sendledger.campaigns.campaign_steps import check_conditions, planned_steps
from sendledger.campaigns.campaigns import get_campaign, takes_in
from sendledger.campaigns.hold_batches import batch_in_the_way
from sendledger.campaigns.missing_parts import CONTENT
from sendledger.campaigns.transitions import is_startable
from sendledger.core.errors import InvalidInput
from sendledger.core.ledger_rules import LAST_STEP, held_until, is_open
from sendledger.core.time_zones import zone, zone_of_lead
from sendledger.core.vocabulary import CampaignStatus, NoForecast, SenderAddressStatus, StartType
from sendledger.policy import budgets, sender_addresses
from sendledger.policy.business_days import Calendar, calendars
from sendledger.policy.caps import SendingDay, ramp_of, sending_day
from sendledger.policy.companies import company_sql, free_mail
from sendledger.policy.planned_campaigns import (
    Forecast,
    NewLeadsOfDay,
    PlannedCampaign,
    PlannedDay,
    PlannedSender,
    PlannedStep,
    PlannedWinner,
    SesLimits,
    WaitingLeads,
)
from sendledger.policy.simulate_days import Simulation
from sendledger.preflight.diagnose import sender_blocked

MOST_LANES = 200
"""Up to so many lanes, all running campaigns are simulated; beyond, those that share a sender with this one."""

MOST_SCHEDULED = 10
"""Campaigns that will start beside this one and are simulated, too. Counting the leads of one takes up to a second."""

_BESIDE = sa.text("""
    SELECT c.id, c.status, (SELECT count(*) FROM campaign_lanes l WHERE l.campaign_id = c.id) AS lanes,
           c.sender_ids && :sender_ids AS shares_sender
    FROM campaigns c WHERE c.status IN ('running', 'scheduled') AND c.id <> :id
    ORDER BY shares_sender DESC, c.scheduled_start_at, c.id
""").bindparams(sa.bindparam("id", type_=sa.UUID), sa.bindparam("sender_ids", type_=sa.ARRAY(sa.UUID)))
# Each lead counts where its next step waits. Its later steps follow from that one.
_WAITING = f"""
    SELECT w.campaign_id, coalesce(l.time_zone, '') AS lead_zone, l.sender_id, w.first / 2 AS step,
           date_trunc('minute', w.scheduled_for) AS due, mod(w.first, 2) = 1 AS waits,
           w.scheduled_for <= {held_until("w", "l")} AS held, w.revision, count(*) AS leads, {{companies}} AS companies
    FROM (
        -- One number is the next step and whether it waits for a winner, so that nothing is sorted.
        SELECT c.id AS campaign_id, e.lead_id, e.revision, min(e.lane) AS lane, min(e.scheduled_for) AS scheduled_for,
               min(e.workflow_step_number * 2 + CAST(e.variant IS NULL AND e.fallback_variant IS NOT NULL AS integer))
                   AS first,
               min(e.id) AS id, min(e.lead_company) AS company, c.late_hold_until
        FROM campaigns c JOIN scheduled_emails e ON e.campaign_id = c.id
        WHERE c.id = ANY(:ids) AND {is_open("e")} AND e.lead_id IS NOT NULL AND e.workflow_step_number <= {LAST_STEP}
        GROUP BY c.id, e.lead_id, e.revision) w
    LEFT JOIN campaign_lanes l ON l.campaign_id = w.campaign_id AND l.lane = w.lane
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8 ORDER BY 1, 2, 3, 4, 5, 6, 7, 8
"""
_WAITING_BY_COMPANY = _WAITING.format(companies="array_agg(w.company ORDER BY w.id)")
_WAITING_WITHOUT = _WAITING.format(companies="CAST(NULL AS bigint[])")
_STEPS = sa.text(f"""
    SELECT s.campaign_id, c.new_leads_per_day, c.new_leads_per_company_per_day, s.revision, s.step_number, s.delay,
           s.business_days, s.winner, s.winner_at, s.winner_decided_at, s.keep_variant,
           (SELECT array_agg(v.weight ORDER BY v.variant) FROM campaign_step_variants v
            WHERE v.campaign_id = s.campaign_id AND v.revision = s.revision AND v.step_number = s.step_number
              AND v.retired_at IS NULL) AS weights
    FROM campaign_steps s JOIN campaigns c ON c.id = s.campaign_id
    WHERE s.campaign_id = ANY(:ids) AND s.step_number <= {LAST_STEP} ORDER BY s.campaign_id, s.revision, s.step_number
""").bindparams(sa.bindparam("ids", type_=sa.ARRAY(sa.UUID)))
_NEW_LEADS = sa.text("""
    SELECT u.campaign_id, nullif(u.sender_id, '00000000-0000-0000-0000-000000000000') AS sender_id,
           nullif(u.company, 0) AS company, CAST(sum(u.count) AS bigint) AS used
    FROM cap_uses u WHERE u.campaign_id = ANY(:ids) AND u.day = :day AND u.is_first GROUP BY 1, 2, 3
""").bindparams(sa.bindparam("ids", type_=sa.ARRAY(sa.UUID)), sa.bindparam("day", type_=sa.Date))
# The leads take turns at the senders in the order of their import, as a start numbers them.
_PLACES = """
SELECT time_zone, country, position, count(*) AS leads, {companies} AS companies
FROM (SELECT r.*, mod(row_number() OVER (ORDER BY r.id) - 1, :senders) AS position
      FROM ranked r WHERE r.reason IS NULL) placed
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""
_PLACES_BY_COMPANY = _PLACES.format(companies=f"array_agg({company_sql('address')})")
_PLACES_WITHOUT = _PLACES.format(companies="CAST(NULL AS bigint[])")


@dataclass(frozen=True)
class Plan:
    """The days from today to the last email. `finishes_at` is None for a `reason`."""

    campaign_id: uuid.UUID
    status: str
    days: Sequence[PlannedDay]
    finishes_at: dt.datetime | None
    reason: NoForecast | None = None


def ses_limits(make_client: Callable[[], Any], rate_safety: float) -> SesLimits | None:
    """What SES lets this account send. None: nothing now, or it does not say."""
    try:
        account: Mapping[str, Any] = make_client().get_account()
    except (BotoCoreError, ClientError):
        return None
    quota = account.get("SendQuota", {})
    rate, per_day = float(quota.get("MaxSendRate", 0)) * rate_safety, float(quota.get("Max24HourSend", 0))
    if not account.get("SendingEnabled", True) or account.get("EnforcementStatus") == "SHUTDOWN" or rate <= 0:
        return None
    return SesLimits(rate, per_day if per_day >= 0 else None, float(quota.get("SentLast24Hours", 0)))


def plan(connection: sa.Connection, campaign_id: uuid.UUID, ses: SesLimits | None) -> Plan:
    """When the emails of a campaign go, if nobody intervenes. Changes nothing.

    Raises:
        NotFound: there is no such campaign.
        InvalidInput: it could not start: its content cannot be sent, or a step waits for what it does not have.
    """
    campaign = get_campaign(connection, campaign_id)
    status = campaign["status"]
    is_draft = is_startable(campaign) and status != CampaignStatus.RUNNING
    if status == CampaignStatus.COMPLETED:
        return Plan(campaign_id, status, [], campaign["completed_at"])
    if not is_draft and (reason := _says_why_not(campaign)) is not None:
        return Plan(campaign_id, status, [], None, reason)
    if is_draft and all(campaign[name] is None for name in CONTENT):
        return Plan(campaign_id, status, [], None, NoForecast.NO_CONTENT)
    blocked = sender_blocked(connection, None)
    if blocked is not None and blocked.cause == "sender_stopped" and blocked.until is None:
        return Plan(campaign_id, status, [], None, NoForecast.SENDING_STOPPED)
    if ses is None:
        return Plan(campaign_id, status, [], None, NoForecast.SES_UNKNOWN)
    # The leads are counted in memory where they fit.
    connection.execute(sa.text("SET LOCAL work_mem = '64MB'"))
    now, day_zone = connection.execute(sa.text("SELECT now(), sending_day_time_zone FROM sender_state")).one()
    today = sending_day(now, zone(day_zone))
    running, scheduled = _campaigns_beside(connection, campaign)
    campaigns = _campaigns(connection, running if is_draft else [campaign_id, *running])
    waiting, held = _waiting(connection, campaigns.values())
    if is_draft:
        campaigns[campaign_id], leads_of_draft = _as_if_started(connection, campaign, now)
        waiting += leads_of_draft
    for other in scheduled:
        # One that cannot start sends nothing.
        with contextlib.suppress(InvalidInput):
            campaigns[other["id"]], leads_of_other = _as_if_started(connection, other, now)
            waiting += leads_of_other
    still_open = takes_in(connection, campaign_id)
    if not any(each.campaign_id == campaign_id for each in waiting) and not held[campaign_id]:
        reason = NoForecast.NO_LEADS if is_draft else NoForecast.TAKES_IN_LEADS if still_open else None
        return Plan(campaign_id, status, [], None, reason) if reason is not None else _nothing_left(campaign)
    senders, disabled = _senders(connection, {each.sender_id for each in waiting if each.sender_id is not None}, today)
    new_leads = {id_: NewLeadsOfDay() for id_ in campaigns}
    for row in connection.execute(_NEW_LEADS, {"ids": list(campaigns), "day": today.date}):
        new_leads[row.campaign_id].by_sender[row.sender_id] += row.used
        new_leads[row.campaign_id].by_company[row.company] += row.used
    simulation = Simulation(campaign_id, campaigns, senders, ses, now, zone(day_zone), new_leads)
    stuck = {NoForecast.EMAILS_HELD} if held[campaign_id] else set[NoForecast]()
    if still_open:
        stuck.add(NoForecast.TAKES_IN_LEADS)
    for leads in waiting:
        if leads.sender_id in disabled:
            reason = NoForecast.A_SENDER_DISABLED
        elif simulation.add(leads):
            continue
        else:
            reason = NoForecast.NEVER_OPEN
        if leads.campaign_id == campaign_id:
            stuck.add(reason)
    return _plan(campaign, simulation.run(), stuck)


def _plan(campaign: sa.RowMapping, forecast: Forecast, stuck: set[NoForecast]) -> Plan:
    id_, status = campaign["id"], campaign["status"]
    if stuck:
        # In the order of the vocabulary: what is said first is to be fixed first.
        return Plan(id_, status, forecast.days, None, next(each for each in NoForecast if each in stuck))
    if forecast.is_cut:
        return Plan(id_, status, forecast.days, None, NoForecast.TOO_MANY_LANES)
    if forecast.finished_at is None:
        return Plan(id_, status, forecast.days, None, NoForecast.MORE_THAN_400_DAYS)
    return Plan(id_, status, forecast.days, forecast.finished_at)


def _nothing_left(campaign: sa.RowMapping) -> Plan:
    """It completes with the next tick: its last email has gone."""
    return Plan(campaign["id"], campaign["status"], [], campaign["last_run_at"] or campaign["actual_started_at"])


def _says_why_not(campaign: sa.RowMapping) -> NoForecast | None:
    if campaign["status"] == CampaignStatus.PAUSED:
        return NoForecast.CAMPAIGN_PAUSED
    if campaign["status"] != CampaignStatus.RUNNING:
        return NoForecast.CAMPAIGN_ENDED
    return NoForecast.EMAILS_BEING_PREPARED if campaign["background_work"] else None


def _campaigns_beside(
    connection: sa.Connection, campaign: sa.RowMapping
) -> tuple[list[uuid.UUID], list[sa.RowMapping]]:
    """The campaigns that take part of what SES and the senders may send: those that run, and those that will start.

    One whose lead batch is in use starts when nobody knows.
    """
    others = connection.execute(_BESIDE, {"id": campaign["id"], "sender_ids": list(campaign["sender_ids"])}).all()
    if sum(max(1, other.lanes) for other in others) > MOST_LANES:
        others = [other for other in others if other.shares_sender]
    running = [other.id for other in others if other.status == CampaignStatus.RUNNING]
    ids = [other.id for other in others if other.status == CampaignStatus.SCHEDULED][:MOST_SCHEDULED]
    scheduled = [get_campaign(connection, id_) for id_ in ids]
    return running, [each for each in scheduled if batch_in_the_way(connection, each) is None]


def _campaigns(connection: sa.Connection, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, PlannedCampaign]:
    known = calendars(connection, ids, all_schedules=True)
    steps = connection.execute(_STEPS, {"ids": list(ids)}).mappings()
    found = {}
    for id_, own in itertools.groupby(steps, key=lambda step: step["campaign_id"]):
        first, *later = own
        planned: dict[int, list[PlannedStep]] = defaultdict(list)
        for each in (first, *later):
            planned[each["revision"]].append(_step(each, each["weights"], each["winner_at"]))
        caps = first["new_leads_per_day"], first["new_leads_per_company_per_day"]
        found[id_] = PlannedCampaign(id_, planned, known.get(id_), *caps)
    return found


def _step(
    step: Mapping[str, Any] | sa.RowMapping, weights: Sequence[int] | None, decide_at: dt.datetime | None
) -> PlannedStep:
    winner = None
    if step["winner"] is not None and decide_at is not None and step.get("winner_decided_at") is None:
        share = step["winner"]["test_share"]
        # Steps that keep the variant and are split in the same way let the same leads wait.
        split = f"{weights} {share}" if step["keep_variant"] else f"step {step['step_number']}"
        winner = PlannedWinner(decide_at, share, split)
    return PlannedStep(step["step_number"], step["delay"], step["business_days"], winner)


def _waiting(
    connection: sa.Connection, campaigns: Iterable[PlannedCampaign]
) -> tuple[list[WaitingLeads], Counter[uuid.UUID]]:
    """What waits in started campaigns, and how many leads of each are held."""
    waiting: list[WaitingLeads] = []
    held: Counter[uuid.UUID] = Counter()
    ids: dict[str, list[uuid.UUID]] = defaultdict(list)
    for each in campaigns:
        ids[_WAITING_WITHOUT if each.new_leads_per_company_per_day is None else _WAITING_BY_COMPANY].append(each.id)
    for statement, own in ids.items():
        asked = sa.text(statement).bindparams(sa.bindparam("ids", own, sa.ARRAY(sa.UUID)))
        for row in connection.execute(asked):
            if row.held:
                held[row.campaign_id] += row.leads
                continue
            place = row.campaign_id, row.lead_zone, row.sender_id
            companies = row.companies if row.step == 1 and row.companies else ()
            waiting.append(WaitingLeads(*place, row.step, row.due, row.leads, companies, row.waits, row.revision))
    return waiting, held


def _as_if_started(
    connection: sa.Connection, campaign: sa.RowMapping, now: dt.datetime
) -> tuple[PlannedCampaign, list[WaitingLeads]]:
    """A campaign that has not started, as its start will leave it: now, or at its time.

    Raises:
        InvalidInput: it could not start.
    """
    start_at = now
    if campaign["start_type"] == StartType.SCHEDULED and campaign["scheduled_start_at"]:
        start_at = max(now, campaign["scheduled_start_at"])
    planned = _draft(connection, campaign, start_at)
    return planned, _audience(connection, campaign, planned, start_at)


def _draft(connection: sa.Connection, campaign: sa.RowMapping, start_at: dt.datetime) -> PlannedCampaign:
    steps = planned_steps(connection, campaign)
    check_conditions(steps, campaign)
    calendar = calendars(connection, [campaign["id"]], all_schedules=True).get(campaign["id"])
    planned, at = [], start_at
    for step in steps:
        # In the zone of the schedule, as a start works out when the winners are decided.
        at = _due(calendar, "", at, step["delay"], step["business_days"])
        decide_at = at + dt.timedelta(seconds=step["winner"]["after_seconds"]) if step["winner"] else None
        planned.append(_step(step, [each["weight"] for each in step["variants"]], decide_at))
    caps = campaign["new_leads_per_day"], campaign["new_leads_per_company_per_day"]
    return PlannedCampaign(campaign["id"], {1: planned}, calendar, *caps, starts_at=start_at)


def _due(
    calendar: Calendar | None, lead_zone: str, at: dt.datetime, delay: dt.timedelta, business_days: int | None
) -> dt.datetime:
    if business_days is not None and calendar is not None:
        return calendar.after(lead_zone, at, business_days)
    return at + delay


def _audience(
    connection: sa.Connection, campaign: sa.RowMapping, planned: PlannedCampaign, start_at: dt.datetime
) -> list[WaitingLeads]:
    """What a start would write: the leads by zone, split over the senders."""
    first = planned.steps[1][0]
    senders: list[uuid.UUID | None] = list(campaign["sender_ids"]) or [None]
    leads: Counter[tuple[str, int]] = Counter()
    companies: dict[tuple[str, int], list[int | None]] = defaultdict(list)
    audience = audience_of(connection, campaign)
    in_turn = sa.bindparam("senders", len(senders), sa.BigInteger)
    statement = audience.judged(_PLACES_WITHOUT, 0, 1, in_turn)
    if planned.new_leads_per_company_per_day is not None:
        known = sa.bindparam("free_mail", free_mail(), sa.Text)
        statement = audience.judged(_PLACES_BY_COMPANY, 0, 1, in_turn, known)
    for row in connection.execute(statement):
        place = zone_of_lead(row.time_zone, row.country).name or "", row.position
        leads[place] += row.leads
        companies[place] += row.companies or []
    found = []
    for (lead_zone, position), count in sorted(leads.items()):
        due = _due(planned.calendar, lead_zone, start_at, first.delay, first.business_days)
        place_of = campaign["id"], lead_zone, senders[position]
        found.append(WaitingLeads(*place_of, first.number, due, count, companies[lead_zone, position]))
    return found


def _senders(
    connection: sa.Connection, ids: set[uuid.UUID], today: SendingDay
) -> tuple[dict[uuid.UUID, PlannedSender], set[uuid.UUID | None]]:
    """The senders with what they have used today, and which of them are disabled."""
    senders: dict[uuid.UUID, PlannedSender] = {}
    disabled: set[uuid.UUID | None] = set()
    rows = sender_addresses.of_campaign(connection, list(ids))
    uses, used = budgets.uses_of(connection, rows, today), budgets.used_by_campaign(connection, ids, today)
    for row in rows:
        use = uses[row["id"]]
        senders[row["id"]] = PlannedSender(
            *(use.cap, used[row["id"]], use.first, use.last),
            *(row["daily_cap"], ramp_of(row["ramp"]), row["spread"]),
        )
        if row["status"] == SenderAddressStatus.DISABLED:
            disabled.add(row["id"])
    return senders, disabled
