"""Pages that show campaigns: the list, one campaign with its live part, and its rows of the ledger."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Mapping
from typing import Any

from console.api_calls import Api, ApiRefused
from console.campaign_actions import ACTIONS, DECIDED, can_send_again, possible
from console.campaign_form import can_edit
from console.campaign_limits import changeable
from console.lead_pages import search_leads
from console.visit import HttpAnswer, Visit, page
from sendledger.core.vocabulary import CampaignStatus, ErrorCode, Reason, ScheduledEmailStatus

IN_A_PAGE = 20
STATUSES = (
    CampaignStatus.RUNNING,
    CampaignStatus.PAUSED,
    CampaignStatus.SCHEDULED,
    CampaignStatus.DRAFT,
    CampaignStatus.COMPLETED,
    CampaignStatus.CANCELLED,
    CampaignStatus.FAILED,
)
MOST_IN_NEED = 10
MOST_FORECAST = 100_000
"""Emails that wait in a campaign whose page shows the days ahead. With more, the page of the plan takes its time."""
MOST_PLANNED = 3
"""Campaigns of a list whose end is taken from their plan. Each of them asks SES, which answers once a second."""
LEADS_OF_A_SEARCH = 20
"""Leads whose emails a search in a campaign shows."""
MOST_UNKNOWN = 5
"""Emails of unknown outcome that the page of a campaign shows."""
_POLICY = ("sending_schedule_id", "sender_ids", "new_leads_per_day", "new_leads_per_company_per_day")
"""What puts the emails of a campaign in lanes."""
_DONE = {**{name: action.done for name, action in ACTIONS.items()}, **DECIDED, "limits": "The limits are saved."}
_AHEAD = {CampaignStatus.DRAFT, CampaignStatus.SCHEDULED, CampaignStatus.RUNNING, CampaignStatus.PAUSED}
"""Statuses of campaigns that have days ahead of them."""


@page("GET", "/campaigns")
def list_campaigns(visit: Visit) -> HttpAnswer:
    api = visit.api
    status, attention, cursor = (visit.query.get(name) for name in ("status", "attention", "cursor"))
    filters = {"status": status, "needs_attention": "true" if attention else None}
    listed = api.get("/v1/campaigns", limit=IN_A_PAGE, cursor=cursor, **filters)
    need_attention, more_need_attention = list[Any](), False
    if not (status or attention or cursor):
        first = api.get("/v1/campaigns", limit=MOST_IN_NEED, needs_attention="true")
        need_attention, more_need_attention = first["items"], first["next_cursor"] is not None
    above = {campaign["id"] for campaign in need_attention}
    campaigns = [campaign for campaign in listed["items"] if campaign["id"] not in above]
    progress = _progress_of(api, [*need_attention, *campaigns])
    for campaign in (*need_attention, *campaigns):
        campaign["stats"] = progress.get(campaign["id"])
    overview = api.get("/v1/overview")
    return visit.page(
        "campaigns.html",
        overview=overview,
        planned=_planned([*need_attention, *campaigns], overview["campaigns_by_status"]),
        need_attention=need_attention,
        more_need_attention=more_need_attention,
        campaigns=campaigns,
        next_cursor=listed["next_cursor"],
        status_shown=status,
        attention=attention,
        statuses=STATUSES,
    )


@page("GET", "/campaigns/<campaign_id:id>")
def show_campaign(visit: Visit, campaign_id: str) -> HttpAnswer:
    api = visit.api
    interval = "day" if visit.query.get("interval") == "day" else "hour"
    progress = _progress(api, campaign_id)
    schedule_id = progress["campaign"]["sending_schedule_id"]
    unknown = _unknown(api, campaign_id) if progress["stats"]["by_status"][ScheduledEmailStatus.FAILED] else []
    return visit.page(
        "campaign.html",
        **progress,
        has_days_ahead=progress["campaign"]["status"] in _AHEAD,
        shows_days_ahead=0 < progress["stats"]["by_status"][ScheduledEmailStatus.PENDING] <= MOST_FORECAST,
        schedule=schedule_id and api.get(f"/v1/sending-schedules/{schedule_id}"),
        senders=[api.get(f"/v1/senders/{each}") for each in progress["campaign"]["sender_ids"]],
        timeline=api.get(f"/v1/campaigns/{campaign_id}/timeline", interval=interval),
        content=_content(api, progress["campaign"]),
        unknown=unknown,
        sent_again={row["id"] for row in unknown if can_send_again(progress["campaign"], row)},
        leads=api.by_id("/v1/leads", (row["lead_id"] for row in unknown)),
        changeable=changeable(api, progress["campaign"]),
        problem=None,
        done=_DONE.get(visit.query.get("done", "")),
    )


@page("GET", "/campaigns/<campaign_id:id>/live")
def show_progress(visit: Visit, campaign_id: str) -> HttpAnswer:
    """The part of the campaign's page that is refreshed while it is open."""
    return visit.page("campaign_live.html", **_progress(visit.api, campaign_id))


@page("GET", "/campaigns/<campaign_id:id>/plan")
def show_plan(visit: Visit, campaign_id: str) -> HttpAnswer:
    """The days ahead, which are loaded after the page: SES is asked, and with many leads it takes seconds.

    With `wait` the page has them itself.
    """
    if visit.query.get("wait"):
        return visit.page("campaign_plan.html", **_plan(visit.api, campaign_id), is_part=False)
    return visit.page("campaign_plan.html", campaign=visit.api.get(f"/v1/campaigns/{campaign_id}"), plan=None)


@page("GET", "/campaigns/<campaign_id:id>/plan/part")
def show_plan_part(visit: Visit, campaign_id: str) -> HttpAnswer:
    """The part of the campaign's page that is loaded after it; with `alone`, that of the page of the days ahead."""
    is_part = not visit.query.get("alone")
    return visit.page("campaign_plan_part.html", **_plan(visit.api, campaign_id), is_part=is_part)


@page("GET", "/campaigns/<campaign_id:id>/plan/end")
def show_end(visit: Visit, campaign_id: str) -> HttpAnswer:
    """The part of the list of campaigns that is loaded after it."""
    return visit.page("campaign_end.html", **_plan(visit.api, campaign_id))


@page("GET", "/campaigns/<campaign_id:id>/emails")
def list_emails(visit: Visit, campaign_id: str) -> HttpAnswer:
    """The campaign's rows of the ledger, each with its lead; with a search those of the leads that fit."""
    api = visit.api
    filters = {name: visit.query.get(name) or None for name in ("status", "step", "error_code", "reason")}
    if filters["reason"] and filters["status"] not in (ScheduledEmailStatus.SKIPPED, ScheduledEmailStatus.CANCELLED):
        filters["status"] = None  # a reason finds these only
    search = visit.query.get("search", "").strip()
    path = f"/v1/campaigns/{campaign_id}/scheduled-emails"
    if search:
        found, more_fit = search_leads(api, search, LEADS_OF_A_SEARCH)
        rows = [row for lead in found for row in api.get(path, lead_id=lead["id"], **filters)["items"]]
        leads, next_cursor = {lead["id"]: lead for lead in found}, None
    else:
        listed = api.get(path, limit=25, cursor=visit.query.get("cursor"), **filters)
        rows, next_cursor, more_fit = listed["items"], listed["next_cursor"], False
        leads = api.by_id("/v1/leads", (row["lead_id"] for row in rows))
    campaign = api.get(f"/v1/campaigns/{campaign_id}")
    return visit.page(
        "campaign_emails.html",
        campaign=campaign,
        stats=api.get("/v1/campaign-progress", ids=campaign_id)["items"][0],
        emails=rows,
        leads=leads,
        next_cursor=next_cursor,
        filters=filters,
        search=search,
        more_fit=more_fit,
        reasons=[*Reason],
        waits=_why_they_wait(api, campaign, rows),
        held={row["id"] for row in rows if _may_be_held(campaign, row)},
    )


@page("GET", "/campaigns/<campaign_id:id>/left-out")
def list_left_out(visit: Visit, campaign_id: str) -> HttpAnswer:
    """The leads that its start has left out."""
    api = visit.api
    reason = visit.query.get("reason")
    path = f"/v1/campaigns/{campaign_id}/left-out-leads"
    listed = api.get(path, limit=50, cursor=visit.query.get("cursor"), reason=reason)
    return visit.page(
        "campaign_left_out.html",
        campaign=api.get(f"/v1/campaigns/{campaign_id}"),
        leads=listed["items"],
        next_cursor=listed["next_cursor"],
        reason=reason,
    )


def _why_they_wait(api: Api, campaign: Any, rows: list[Any]) -> dict[int, str]:
    """In words, by the id of a row that is pending."""
    pending = [row for row in rows if row["status"] == ScheduledEmailStatus.PENDING]
    if not pending:
        return {}
    diagnosis, now = api.get(f"/v1/campaigns/{campaign['id']}/diagnose"), dt.datetime.now(dt.UTC)
    of_due = diagnosis["message"] if diagnosis["cause"] else "It is due and gets its turn."
    # In a campaign with a sending policy only some lanes may be held, and a row does not tell its lane.
    held_by_lane = diagnosis["cause"] != "held_late" and any(campaign[each] for each in _POLICY)
    of_held = (
        f"It may be held since an outage. If it is not: {of_due}" if held_by_lane else "It is held since an outage."
    )

    def why(row: Any) -> str:
        if _may_be_held(campaign, row):
            return of_held
        return "It waits for its time." if dt.datetime.fromisoformat(row["scheduled_for"]) > now else of_due

    return {row["id"]: why(row) for row in pending}


def _may_be_held(campaign: Any, row: Any) -> bool:
    """Whether it was due by the time up to which emails of the campaign, or of one of its lanes, are held."""
    until = campaign["late_hold_until"]
    if until is None or row["status"] != ScheduledEmailStatus.PENDING:
        return False
    return dt.datetime.fromisoformat(row["scheduled_for"]) <= dt.datetime.fromisoformat(until)


def _progress_of(api: Api, campaigns: list[Any]) -> dict[str, Any]:
    """How far each is, by its id, if it has written an email."""
    ids = [campaign["id"] for campaign in campaigns if campaign["emails_scheduled_count"]]
    listed = api.get("/v1/campaign-progress", ids=",".join(ids))["items"] if ids else []
    return {progress["campaign_id"]: progress for progress in listed}


def _planned(listed: list[Any], counts: Mapping[str, int]) -> set[str]:
    """Those whose end is taken from the plan: their rate does not tell it, and the plan is worked out quickly.

    A plan reads what waits in all running campaigns, so these must be known.
    """
    running = [campaign for campaign in listed if campaign["status"] == CampaignStatus.RUNNING]
    begun = [campaign for campaign in running if campaign["stats"]]
    waiting = sum(campaign["stats"]["by_status"][ScheduledEmailStatus.PENDING] for campaign in begun)
    if len(running) < counts.get(CampaignStatus.RUNNING, 0) or waiting > MOST_FORECAST:
        return set()
    open_ended = (each for each in begun if each["stats"]["next_due_at"] and not each["stats"]["expected_to_finish_at"])
    return {campaign["id"] for campaign in itertools.islice(open_ended, MOST_PLANNED)}


def _progress(api: Api, campaign_id: str) -> dict[str, Any]:
    campaign = api.get(f"/v1/campaigns/{campaign_id}")
    stats = api.get(f"/v1/campaigns/{campaign_id}/stats")
    diagnosis = api.get(f"/v1/campaigns/{campaign_id}/diagnose")
    return {
        "campaign": campaign,
        "stats": stats,
        "diagnosis": diagnosis,
        "actions": possible(api, campaign, stats),
        "can_edit": can_edit(campaign),
    }


def _plan(api: Api, campaign_id: str) -> dict[str, Any]:
    return {"campaign": api.get(f"/v1/campaigns/{campaign_id}"), "plan": api.get(f"/v1/campaigns/{campaign_id}/plan")}


def _unknown(api: Api, campaign_id: str) -> list[Any]:
    path = f"/v1/campaigns/{campaign_id}/scheduled-emails"
    listed: list[Any] = api.get(path, limit=MOST_UNKNOWN, error_code=ErrorCode.OUTCOME_UNKNOWN)["items"]
    return listed


def _content(api: Api, campaign: Any) -> list[dict[str, Any]]:
    """What it sends: its steps with the templates' names; empty where the content was deleted meanwhile."""
    try:
        if campaign["workflow_id"]:
            steps = api.get(f"/v1/workflows/{campaign['workflow_id']}")["steps"]
        elif campaign["email_template_id"]:
            steps = [{"step_number": 1, "email_template_id": campaign["email_template_id"], "delay": None}]
        else:
            steps = []
        return [
            {**step, "template": api.get(f"/v1/email-templates/{step['email_template_id']}")}
            for step in steps
            if step["email_template_id"]
        ]
    except ApiRefused:
        return []
