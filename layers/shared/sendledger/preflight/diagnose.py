"""Why is nothing being sent? A campaign's id goes in, the cause comes out.

The checks have the order in which they stop an email. The first that applies is the cause; the later ones matter only
once it is removed. Reads `campaigns`, their lanes, `scheduled_emails` and `sender_state` by index; a campaign of
millions costs no more than a small one. With `note_tick` a sender stores what kept it from sending.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import sqlalchemy as sa

from sendledger.campaigns.campaigns import OUTREACH_TYPES, get_campaign, takes_in
from sendledger.campaigns.hold_batches import awaits_import, batch_in_the_way
from sendledger.campaigns.missing_parts import missing_content, missing_leads
from sendledger.core.ledger_rules import has_lanes, held_until, is_pending, is_sending, waits_in_lane
from sendledger.core.vocabulary import CampaignStatus, ScheduledEmailStatus
from sendledger.policy.budgets import budgets
from sendledger.policy.caps import WITHOUT_CAP
from sendledger.policy.lanes import OPEN_LANES, OPEN_LANES_PARAMETERS, lane_parameters, open_zones
from sendledger.preflight.waiting_lanes import WaitingLane, waiting_lanes, what_due_emails_wait_for

_SENDERS_DIED = (
    "Senders died {deaths} times while they prepared emails of this campaign. They are now prepared after those of all "
    "others; at the third death the campaign pauses itself. Look at its template."
)

_DECIDE_SAYS = (
    "Send or skip them on the campaign's page in the console, or with POST /v1/campaigns/{id}/late-emails "
    "(action: send or skip)."
)

_EDIT_SAYS = "Its edited workflow cannot be sent, so leads that come in get it as it was before:"

NO_TICK_AFTER = dt.timedelta(minutes=5)
"""If no tick ran for this long, the sender does not run. It ticks every minute."""

WITHOUT_TICKS = ("other_deployment", "no_tick")
"""Causes that also stop background work: ticks write the rows of large campaigns."""

MAX_COUNTED = 10_000
"""Rows that are counted at most; a count that reaches it means "or more"."""

_STATUS_SAYS = {
    CampaignStatus.DRAFT: "The campaign is a draft; start it.",
    CampaignStatus.SCHEDULED: "The campaign starts at its time.",
    CampaignStatus.PAUSED: "The campaign is paused; resume it.",
    CampaignStatus.COMPLETED: "The campaign is complete: every one of its emails has its final status.",
    CampaignStatus.CANCELLED: "The campaign was cancelled; nothing more is sent from it.",
    CampaignStatus.FAILED: "The campaign could not start at its time; fix what the reason says, and start it again.",
    CampaignStatus.ARCHIVED: "The campaign is archived; nothing more is sent from it.",
    CampaignStatus.ACTIVE: "The campaign belongs to the application that used this database before; "
    "migrate-existing-campaigns takes it over.",
}


@dataclass(frozen=True)
class Diagnosis:
    """`cause` is a stable code. If it is None, emails are going out.

    `next_send_at` is when the next email goes out without further action. None if a person has to act or nothing is
    left.
    """

    campaign_id: uuid.UUID
    status: str
    cause: str | None
    message: str
    next_send_at: dt.datetime | None
    detail: Mapping[str, Any] = field(default_factory=dict)


# last_tick_at is for the late guard and leaves out ticks in which SES allowed no sending. Such a tick has run, though.
_STATE = sa.text("""
    SELECT now() AS now, deployment_id, greatest(last_tick_at, last_tick_ended_at) AS last_tick_at,
           stop_code, stop_reason, stopped_until, last_blocked, last_rate,
           stop_code IS NOT NULL AND (stopped_until IS NULL OR stopped_until > now()) AS stopped
    FROM sender_state
""")
_IN_LANE = f"campaign_id = :id AND e.lane = lane.lane AND {waits_in_lane('e')} AND {is_pending('e')}"
# In a campaign with a sending policy, lane by lane. A step whose earlier one is still open is due with that one.
_ROWS = sa.text(f"""
    WITH lane AS MATERIALIZED (
        SELECT l.lane, {held_until("c", "l")} AS hold
        FROM campaigns c JOIN campaign_lanes l ON l.campaign_id = c.id WHERE c.id = :id AND {has_lanes("c")}
    )
    SELECT (SELECT count(*) FROM (
                SELECT FROM scheduled_emails e WHERE campaign_id = :id AND {is_pending("e")}
                    AND is_behind IS NOT TRUE AND NOT EXISTS (SELECT FROM lane)
                    AND scheduled_for <= now() AND scheduled_for > :hold
                UNION ALL
                SELECT FROM lane CROSS JOIN LATERAL (
                    SELECT FROM scheduled_emails e WHERE {_IN_LANE} AND scheduled_for <= now()
                        AND scheduled_for > lane.hold LIMIT :limit) e
                LIMIT :limit) due) AS due,
           (SELECT count(*) FROM (
                SELECT FROM scheduled_emails e WHERE campaign_id = :id AND {is_pending("e")}
                    AND NOT EXISTS (SELECT FROM lane) AND scheduled_for <= :hold
                UNION ALL
                SELECT FROM lane CROSS JOIN LATERAL (
                    SELECT FROM scheduled_emails e WHERE {_IN_LANE} AND scheduled_for <= lane.hold LIMIT :limit) e
                LIMIT :limit) held) AS held,
           (SELECT count(*) FROM (SELECT FROM scheduled_emails e WHERE campaign_id = :id AND {is_sending("e")}
                LIMIT :limit) sending) AS sending,
           (SELECT min(scheduled_for) FROM scheduled_emails e WHERE campaign_id = :id AND {is_pending("e")}
                AND scheduled_for > greatest(now(), CAST(:hold AS timestamptz))) AS next_due
""").bindparams(sa.bindparam("id", type_=sa.UUID), sa.bindparam("hold", type_=sa.TIMESTAMP(timezone=True)))
# In the order of the campaign's index. Otherwise the planner may search the whole table.
_ENDED = sa.text("""
    SELECT coalesce(reason, error_code, status), count(*)
    FROM (SELECT reason, error_code, status FROM scheduled_emails WHERE campaign_id >= :id AND campaign_id <= :id
          ORDER BY campaign_id, id LIMIT :limit) ended
    GROUP BY 1
""").bindparams(sa.bindparam("id", type_=sa.UUID))
_BEGINNING = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

_OLDEST_DUE = sa.text(f"""
    SELECT extract(epoch FROM now() - min(since)) FROM (
        SELECT (SELECT scheduled_for FROM scheduled_emails e
                WHERE e.campaign_id = c.id AND {is_pending("e")} AND e.scheduled_for <= now()
                  AND e.scheduled_for > {held_until("c")}
                ORDER BY scheduled_for, id LIMIT 1) AS since
        FROM campaigns c WHERE c.status = 'running' AND NOT {has_lanes("c")}
        UNION ALL
        SELECT greatest(lane.opens_at, (
            SELECT min(e.scheduled_for) FROM scheduled_emails e
            WHERE e.campaign_id = lane.campaign_id AND e.lane = lane.lane AND {waits_in_lane("e")} AND {is_pending("e")}
              AND e.scheduled_for > lane.late_hold_until))
        FROM ({OPEN_LANES}) lane
        WHERE (lane.remaining IS NULL OR lane.remaining = {WITHOUT_CAP})
          AND lane.new_leads IS NULL AND lane.company_cap IS NULL
    ) first
""").bindparams(*OPEN_LANES_PARAMETERS)


def oldest_due_seconds(connection: sa.Connection) -> float:
    """How long the email that has waited longest has been due and its sending schedule open; 0 where none is.

    Emails that wait for a cap, of a sender or of new leads, do not count: they may wait for days.

    Held emails wait for a person.
    """
    parameters = lane_parameters(open_zones(connection), budgets(connection))
    return float(connection.scalar(_OLDEST_DUE, parameters) or 0.0)


def note_tick(connection: sa.Connection, rate: float, blocked: str | None) -> None:
    """Store the end of a tick: the rate that was allowed, and what stopped it from sending, if anything did."""
    connection.execute(
        sa.text("UPDATE sender_state SET last_rate = :rate, last_blocked = :blocked, last_tick_ended_at = now()"),
        {"rate": rate, "blocked": blocked},
    )


def diagnose(connection: sa.Connection, campaign_id: uuid.UUID, deployment_id: str | None) -> Diagnosis:
    """Why this campaign sends nothing now. `deployment_id` is this deployment's.

    Raises:
        NotFound: there is no campaign with this id.
    """
    campaign = get_campaign(connection, campaign_id)
    status = campaign["status"]
    sender = _sender(connection)

    def found(cause: str | None, message: str, at: dt.datetime | None = None, **detail: Any) -> Diagnosis:
        return _with_workflow_errors(campaign, Diagnosis(campaign_id, status, cause, message, at, detail))

    needs_sender = status in (CampaignStatus.RUNNING, CampaignStatus.SCHEDULED)
    blocked = _sender_blocked(sender, deployment_id) if needs_sender else None
    if blocked is not None:
        if campaign["background_work"] and blocked.cause in WITHOUT_TICKS:
            kind = campaign["background_work"][0]["kind"]
            message = f"{blocked.message} Until then this campaign's emails are not prepared either ({kind})."
            return found(blocked.cause, message, blocked.until, **blocked.detail, kind=kind)
        return found(blocked.cause, blocked.message, blocked.until, **blocked.detail)
    if status == CampaignStatus.SCHEDULED and campaign["scheduled_start_at"] <= sender["now"]:
        in_the_way = batch_in_the_way(connection, campaign)
        if in_the_way is not None:
            return found("batch_held", f"Its time has come, but it waits. {in_the_way.detail}", None, **in_the_way.data)
        return found("campaign_scheduled", "Its time has come; it starts with the next tick.", sender["now"])
    if status != CampaignStatus.RUNNING:
        starts_at = campaign["scheduled_start_at"] if status == CampaignStatus.SCHEDULED else None
        why = campaign["failure_reason"]
        detail: dict[str, Any] = {"reason": why} if why else {}
        message = _STATUS_SAYS[status]
        if status == CampaignStatus.DRAFT and (missing := _missing(connection, campaign)):
            message = f"The campaign is a draft. It still needs {' and '.join(missing)}."
            detail |= {"missing": [field for fields in missing.values() for field in fields]}
        if status == CampaignStatus.PAUSED and why:
            # It has paused itself. After a resume without a correction, the next emails would fail for the same cause.
            message = f"The campaign has paused itself: {why} Fix the cause before you resume it."
        if status == CampaignStatus.PAUSED and campaign["late_hold_until"] is not None:
            decide = _DECIDE_SAYS.format(id=campaign_id)
            message += f" Emails that became overdue in an outage are held. {decide}"
        return found(f"campaign_{status}", message, starts_at, **detail)
    if campaign["background_work"]:
        kind = campaign["background_work"][0]["kind"]
        return found("rows_being_written", f"Its emails are still being prepared ({kind}).", sender["now"], kind=kind)
    parameters = {"id": campaign_id, "hold": campaign["late_hold_until"] or _BEGINNING, "limit": MAX_COUNTED}
    rows = connection.execute(_ROWS, parameters).one()
    lanes = waiting_lanes(connection, campaign_id)
    if rows.due:
        cause, message, at, detail = _due(campaign, rows, lanes, sender["now"])
        return found(cause, message, at, **detail)
    if rows.held:
        message = f"Emails became overdue during an outage and are held. {_DECIDE_SAYS.format(id=campaign_id)}"
        return found("held_late", message, _next_send(rows.next_due, lanes), held=rows.held)
    if rows.sending:
        return found(None, "The last emails are on their way.", sender["now"], sending=rows.sending)
    if rows.next_due:
        return found(*_not_due(campaign, rows.next_due), _next_send(rows.next_due, lanes))
    ended = connection.execute(_ENDED, {"id": campaign_id, "limit": MAX_COUNTED})
    return found(*_nothing_left(connection, campaign_id), None, **{str(why): count for why, count in ended})


def _missing(connection: sa.Connection, campaign: sa.RowMapping) -> dict[str, list[str]]:
    """What a draft lacks for a start, in words, with the fields of which one would do."""
    if campaign["campaign_type"] not in OUTREACH_TYPES:
        return {}
    content = missing_content(connection, campaign)
    # One is of what was chosen.
    what = "content" if len(content) > 1 else "".join(f"content: {error.message}" for error in content)
    errors = {"leads": missing_leads(connection, campaign), what: content}
    return {what: [error.field for error in found] for what, found in errors.items() if found}


def _nothing_left(connection: sa.Connection, campaign_id: uuid.UUID) -> tuple[str, str]:
    if takes_in(connection, campaign_id):
        return "waits_for_leads", "All its emails are done; it waits for leads that come in."
    if awaits_import(connection, campaign_id):
        return "waits_for_leads", "All its emails are done; leads of an import that it was given are still to come in."
    return "nothing_left", "No email is left to send; the campaign completes with the next tick."


def _with_workflow_errors(campaign: sa.RowMapping, found: Diagnosis) -> Diagnosis:
    """Leads that come in get other texts than the workflow has now. That stops nothing, but a person should know."""
    errors = campaign["workflow_errors"]
    if not errors or found.status not in (CampaignStatus.RUNNING, CampaignStatus.PAUSED):
        return found
    message = f"{found.message} {_EDIT_SAYS} {'; '.join(error['message'] for error in errors)}"
    return dataclasses.replace(found, message=message, detail={**found.detail, "workflow_errors": errors})


def _due(
    campaign: sa.RowMapping, rows: sa.Row[Any], lanes: Sequence[WaitingLane], now: dt.datetime
) -> tuple[str | None, str, dt.datetime | None, dict[str, Any]]:
    """Why emails that are due do not go, or that they do; others may be held beside them."""
    counts = {"due": rows.due} | ({"held": rows.held} if rows.held else {})
    if (wait := what_due_emails_wait_for(lanes, now)) is not None:
        return wait.cause, wait.message, wait.until, {**counts, **wait.detail}
    if campaign["winner_at"] is not None and campaign["winner_at"] <= now:
        message = "The winner of a step is to be decided first; the next tick does that."
        return "waits_for_winner", message, now, counts
    counts |= {str(ScheduledEmailStatus.SENDING): rows.sending}
    if campaign["prepared_alone"]:
        deaths = campaign["sender_deaths"]
        return "senders_died", _SENDERS_DIED.format(deaths=deaths), now, {**counts, "sender_deaths": deaths}
    return None, "Emails are due and go out at the SES rate.", now, counts


def _not_due(campaign: sa.RowMapping, next_due: dt.datetime) -> tuple[str, str]:
    if campaign["winner_at"] is not None and next_due >= campaign["winner_at"]:
        return "waits_for_winner", "The remaining emails wait until the winner of their step's variants is decided."
    return "not_due", "Nothing is due yet."


def _next_send(next_due: dt.datetime | None, lanes: Sequence[WaitingLane]) -> dt.datetime | None:
    """When the next email goes: when it is due, or when its lane opens after that."""
    return min((lane.goes_at for lane in lanes if lane.goes_at is not None), default=None) if lanes else next_due


class Blocked(NamedTuple):
    """What stops all campaigns, until it passes by itself; None if a person has to act."""

    cause: str
    message: str
    until: dt.datetime | None
    detail: dict[str, Any]


def sender_blocked(connection: sa.Connection, deployment_id: str | None) -> Blocked | None:
    """What stops all campaigns now, if anything does."""
    return _sender_blocked(_sender(connection), deployment_id)


def _sender(connection: sa.Connection) -> sa.RowMapping:
    return connection.execute(_STATE).mappings().one()


def _sender_blocked(sender: sa.RowMapping, deployment_id: str | None) -> Blocked | None:
    owner = sender["deployment_id"]
    if owner is not None and deployment_id is not None and owner != deployment_id:
        message = f"This database belongs to the deployment {owner}; {deployment_id} does not send from it."
        return Blocked("other_deployment", message, None, {"owner": owner})
    if sender["stopped"]:
        message = f"All sending is stopped: {sender['stop_reason']}"
        if sender["stopped_until"] is None:
            message += " Fix it, then resume the sender."
        return Blocked("sender_stopped", message, sender["stopped_until"], {"stop_code": sender["stop_code"]})
    last_tick = sender["last_tick_at"]
    if last_tick is None or sender["now"] - last_tick > NO_TICK_AFTER:
        message = "The sender does not run; look at its schedule (SenderState), its errors and its log."
        return Blocked("no_tick", message, None, {"last_tick_at": last_tick and last_tick.isoformat()})
    if sender["last_blocked"] is not None:
        code, _, reason = sender["last_blocked"].partition(": ")
        return Blocked("ses_blocked", f"SES lets nothing be sent now: {reason or code}", None, {"code": code})
    return None
