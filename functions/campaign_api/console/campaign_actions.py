"""What can be done to a campaign: each action first shows what it will do in numbers, and is done by a second page.

Emails of unknown outcome have their two actions here too.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from console.api_calls import Api, ApiRefused
from console.campaign_check import comes_later, preflight_of
from console.campaign_form import stages
from console.visit import ROOT, HttpAnswer, Visit, page, redirect
from sendledger.core.vocabulary import STARTABLE_STATUSES, CampaignStatus, Reason, ScheduledEmailStatus


@dataclass(frozen=True)
class Action:
    """`title`, `button` and `done` are what a person reads; `needs` are the statuses that allow it."""

    title: str
    button: str
    needs: tuple[CampaignStatus, ...]
    done: str
    is_final: bool = False

    @property
    def statuses(self) -> set[str]:
        return {str(status) for status in self.needs}


_ENDED = (CampaignStatus.RUNNING, CampaignStatus.PAUSED, CampaignStatus.COMPLETED)
ACTIONS: Mapping[str, Action] = {
    "start": Action("Start this campaign", "Start", STARTABLE_STATUSES, "The campaign is started."),
    "pause": Action("Pause this campaign", "Pause", (CampaignStatus.RUNNING,), "The campaign is paused."),
    "resume": Action("Resume this campaign", "Resume", (CampaignStatus.PAUSED,), "The campaign runs again."),
    "unschedule": Action(
        "Make this campaign a draft again",
        "Unschedule",
        (CampaignStatus.SCHEDULED,),
        "The campaign is a draft again.",
    ),
    "late-emails": Action(
        "Decide about late emails",
        "Late emails",
        (CampaignStatus.RUNNING, CampaignStatus.PAUSED),
        "The late emails are taken care of.",
    ),
    "retry-failed": Action("Send failed emails again", "Retry failed", _ENDED, "The failed emails are put back."),
    "finish": Action(
        "Take in no more leads",
        "End the intake",
        (CampaignStatus.RUNNING, CampaignStatus.PAUSED),
        "The campaign takes in no more leads.",
        is_final=True,
    ),
    "cancel": Action(
        "Cancel this campaign for good",
        "Cancel",
        (CampaignStatus.SCHEDULED, CampaignStatus.RUNNING, CampaignStatus.PAUSED),
        "The campaign is cancelled.",
        is_final=True,
    ),
}
"""By the last part of their route, which is also that of their page."""
DECIDED: Mapping[str, str] = {
    "winner": "The winner is decided. The emails that waited for it get due.",
    "retire": "The variant is retired. Its unsent emails get another one.",
}
"""What is said after a decision about a variant."""
CONFIRMED = ("start", "resume", "cancel")
"""For these a person can make a token for an assistant."""
_PATH = f"/campaigns/<campaign_id:id>/(?P<name>{'|'.join(ACTIONS)})"


def possible(api: Api, campaign: Any, stats: Any) -> dict[str, Action]:
    """The actions that the campaign's status and the caller's role allow."""
    useless = set()
    if not campaign["late_hold_until"]:
        useless.add("late-emails")
    if not campaign["evergreen"] or campaign["intake_ended_at"]:
        useless.add("finish")
    if not stats["by_status"][ScheduledEmailStatus.FAILED]:
        useless.add("retry-failed")
    # A scheduled campaign starts by itself.
    if campaign["status"] == CampaignStatus.SCHEDULED:
        useless.add("start")
    return {
        name: action
        for name, action in ACTIONS.items()
        if campaign["status"] in action.statuses and name not in useless and api.may(_route(name))
    }


def can_send_again(campaign: Any, row: Any) -> bool:
    """Whether an email of unknown outcome may be put back: its campaign and its lead still get mail."""
    return campaign["status"] in _ENDED and row["reason"] != Reason.LEAD_REMOVED


@page("GET", _PATH)
def ask(visit: Visit, campaign_id: str, name: str) -> HttpAnswer:
    """What the action will do, and the button that does it."""
    return _confirmation(visit, campaign_id, name)


@page("GET", "/campaigns/<draft_id:id>/start/part")
def ask_to_start(visit: Visit, draft_id: str) -> HttpAnswer:
    """The part of the page of a start that is loaded after it."""
    return visit.page("campaign_action_part.html", **_asked(visit, draft_id, "start", is_part=True))


@page("POST", _PATH)
def act(visit: Visit, campaign_id: str, name: str) -> HttpAnswer:
    body = {"action": visit.form.get("action", "")} if name == "late-emails" else {}
    try:
        visit.api.post(f"/v1/campaigns/{campaign_id}/{name}", body, visit.form.get("request", ""))
    except ApiRefused as refused:
        return _confirmation(visit, campaign_id, name, refused)
    return redirect(f"{ROOT}/campaigns/{campaign_id}?done={name}")


@page("POST", f"/campaigns/<campaign_id:id>/(?P<name>{'|'.join(CONFIRMED)})/confirmation")
def confirm(visit: Visit, campaign_id: str, name: str) -> HttpAnswer:
    """Only the page after this request shows the token."""
    body = {"operation": name, "id": campaign_id}
    try:
        made = visit.api.post("/v1/confirmations", body, visit.form.get("request", ""))
    except ApiRefused as refused:
        return _confirmation(visit, campaign_id, name, refused)
    return _confirmation(visit, campaign_id, name, confirmed=made)


@page("GET", "/scheduled-emails/<email:number>")
def ask_to_settle(visit: Visit, email: str) -> HttpAnswer:
    """One row of the ledger. Where SES gave no answer: was it sent, or shall it be sent again?"""
    return _settling(visit, email)


@page("POST", "/scheduled-emails/<email:number>/(?P<action>mark-sent|requeue|send)")
def settle(visit: Visit, email: str, action: str) -> HttpAnswer:
    try:
        visit.api.post(f"/v1/scheduled-emails/{email}/{action}", {}, visit.form.get("request", ""))
    except ApiRefused as refused:
        return _settling(visit, email, refused)
    return redirect(f"{ROOT}/scheduled-emails/{email}")


def _route(name: str) -> str:
    return f"POST /v1/campaigns/<campaign_id>/{name}"


def _confirmation(
    visit: Visit, campaign_id: str, name: str, refused: ApiRefused | None = None, confirmed: object = None
) -> HttpAnswer:
    return visit.page(
        "campaign_action.html",
        status=refused.status if refused else 200,
        problem=refused and refused.problem,
        **_asked(visit, campaign_id, name, confirmed),
    )


def _asked(
    visit: Visit, campaign_id: str, name: str, confirmed: object = None, *, is_part: bool = False
) -> dict[str, Any]:
    """What the page of an action shows."""
    api = visit.api
    campaign = api.get(f"/v1/campaigns/{campaign_id}")
    (progress,) = api.get("/v1/campaign-progress", ids=campaign_id)["items"]
    is_start = name == "start" and campaign["status"] in ACTIONS[name].statuses
    # A token is shown once, by this very page.
    is_later = is_start and not is_part and confirmed is None and comes_later(visit, campaign)
    return {
        "campaign": campaign,
        "stats": progress,
        "name": name,
        "action": ACTIONS[name],
        "is_possible": name in possible(api, campaign, progress),
        "can_confirm": name in CONFIRMED,
        "confirmed": confirmed,
        "stages": stages(campaign) if is_start else [],
        "is_later": is_later,
        "preflight": preflight_of(api, campaign) if is_start and not is_later else None,
        **_numbers(api, campaign, name),
    }


def _numbers(api: Api, campaign: Any, name: str) -> dict[str, Any]:
    """What the page of an action needs besides the campaign and its counts."""
    path = f"/v1/campaigns/{campaign['id']}"
    if name == "retry-failed":
        return {"retryable": api.get(f"{path}/retry-failed")}
    if name == "late-emails":
        return {"held": api.get(f"{path}/diagnose")["detail"].get("held", 0)}
    if name == "resume" and campaign["paused_at"]:
        paused_at = dt.datetime.fromisoformat(campaign["paused_at"])
        return {"paused_for": dt.datetime.now(dt.UTC) - paused_at}
    return {}


def _settling(visit: Visit, email_id: str, refused: ApiRefused | None = None) -> HttpAnswer:
    api = visit.api
    row = api.get(f"/v1/scheduled-emails/{email_id}")
    campaign = api.get(f"/v1/campaigns/{row['campaign_id']}")
    return visit.page(
        "scheduled_email.html",
        status=refused.status if refused else 200,
        row=row,
        campaign=campaign,
        can_send_again=can_send_again(campaign, row),
        lead=api.get(f"/v1/leads/{row['lead_id']}") if row["lead_id"] else None,
        email=api.get(f"/v1/emails/{row['email_id']}") if row["email_id"] else None,
        problem=refused and refused.problem,
    )
