"""Pages that show campaigns: the list, one campaign with its live part, and its rows of the ledger."""

from __future__ import annotations

from typing import Any

from console.api_calls import Api, ApiRefused
from console.campaign_actions import ACTIONS, DECIDED, possible
from console.campaign_form import can_edit
from console.visit import HttpAnswer, Visit, page
from sendledger.core.vocabulary import CampaignStatus, ErrorCode, ScheduledEmailStatus

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
MOST_UNKNOWN = 5
"""Emails of unknown outcome that the page of a campaign shows."""
_DONE = {**{name: action.done for name, action in ACTIONS.items()}, **DECIDED}
_AHEAD = {CampaignStatus.DRAFT, CampaignStatus.SCHEDULED, CampaignStatus.RUNNING, CampaignStatus.PAUSED}
"""Statuses of campaigns that have days ahead of them."""


@page("GET", "/campaigns")
def list_campaigns(visit: Visit) -> HttpAnswer:
    api = visit.api
    status, cursor = visit.query.get("status"), visit.query.get("cursor")
    listed = api.get("/v1/campaigns", limit=IN_A_PAGE, status=status, cursor=cursor)
    need_attention: list[Any] = []
    if status is None and cursor is None:
        need_attention = _need_attention(api, listed["items"])
    above = {campaign["id"] for campaign in need_attention}
    campaigns = [campaign for campaign in listed["items"] if campaign["id"] not in above]
    progress = _progress_of(api, [*need_attention, *campaigns])
    for campaign in (*need_attention, *campaigns):
        campaign["stats"] = progress.get(campaign["id"])
    return visit.page(
        "campaigns.html",
        overview=api.get("/v1/overview"),
        need_attention=need_attention,
        campaigns=campaigns,
        next_cursor=listed["next_cursor"],
        status_shown=status,
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
        schedule=schedule_id and api.get(f"/v1/sending-schedules/{schedule_id}"),
        senders=[api.get(f"/v1/senders/{each}") for each in progress["campaign"]["sender_ids"]],
        timeline=api.get(f"/v1/campaigns/{campaign_id}/timeline", interval=interval),
        content=_content(api, progress["campaign"]),
        unknown=unknown,
        leads=api.by_id("/v1/leads", (row["lead_id"] for row in unknown)),
        done=_DONE.get(visit.query.get("done", "")),
    )


@page("GET", "/campaigns/<campaign_id:id>/live")
def show_progress(visit: Visit, campaign_id: str) -> HttpAnswer:
    """The part of the campaign's page that is refreshed while it is open."""
    return visit.page("campaign_live.html", **_progress(visit.api, campaign_id))


@page("GET", "/campaigns/<campaign_id:id>/plan")
def show_plan(visit: Visit, campaign_id: str) -> HttpAnswer:
    """The days ahead. A page of its own, as it asks SES, which answers such calls once a second."""
    campaign = visit.api.get(f"/v1/campaigns/{campaign_id}")
    return visit.page("campaign_plan.html", campaign=campaign, plan=visit.api.get(f"/v1/campaigns/{campaign_id}/plan"))


@page("GET", "/campaigns/<campaign_id:id>/emails")
def list_emails(visit: Visit, campaign_id: str) -> HttpAnswer:
    """The campaign's rows of the ledger, each with its lead."""
    api = visit.api
    filters = {name: visit.query.get(name) for name in ("status", "step", "error_code")}
    listed = api.get(
        f"/v1/campaigns/{campaign_id}/scheduled-emails", limit=25, cursor=visit.query.get("cursor"), **filters
    )
    campaign = api.get(f"/v1/campaigns/{campaign_id}")
    return visit.page(
        "campaign_emails.html",
        campaign=campaign,
        stats=api.get("/v1/campaign-progress", ids=campaign_id)["items"][0],
        emails=listed["items"],
        leads=api.by_id("/v1/leads", (row["lead_id"] for row in listed["items"])),
        next_cursor=listed["next_cursor"],
        filters=filters,
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


def _need_attention(api: Api, newest: list[Any]) -> list[Any]:
    """Campaigns that need a person; the API lists them by status."""
    stopped = [
        campaign
        for status in (CampaignStatus.FAILED, CampaignStatus.PAUSED)
        for campaign in api.get("/v1/campaigns", limit=MOST_IN_NEED, status=status)["items"]
        if campaign["failure_reason"]
    ]
    running = [
        campaign
        for campaign in newest
        if campaign["status"] == CampaignStatus.RUNNING and (campaign["late_hold_until"] or campaign["workflow_errors"])
    ]
    return [*stopped, *running]


def _progress_of(api: Api, campaigns: list[Any]) -> dict[str, Any]:
    """How far each is, by its id, if it has written an email."""
    ids = [campaign["id"] for campaign in campaigns if campaign["emails_scheduled_count"]]
    listed = api.get("/v1/campaign-progress", ids=",".join(ids))["items"] if ids else []
    return {progress["campaign_id"]: progress for progress in listed}


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
