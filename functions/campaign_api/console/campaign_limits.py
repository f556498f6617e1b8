"""The form in which a campaign under way is changed: when it pauses itself, its caps, and how it takes in leads."""

from __future__ import annotations

import datetime as dt
from typing import Any

from console.api_calls import Api, ApiRefused
from console.campaign_form import differing, typed_fields
from console.visit import ROOT, HttpAnswer, Visit, page, redirect
from sendledger.core.vocabulary import CampaignStatus

_FIELDS = {
    "guardrails": "guardrails_enabled",
    "new_leads_per_day": "new_leads_per_day",
    "new_leads_per_company_per_day": "new_leads_per_company_per_day",
    "end_at": "end_at",
    "intake": "intake_every",
}
"""Of the API, each with a field that the form has where it can be changed."""
_PATH = "/campaigns/<campaign_id:id>/limits"


@page("GET", _PATH)
def show_limits(visit: Visit, campaign_id: str) -> HttpAnswer:
    return _page(visit, visit.api.get(f"/v1/campaigns/{campaign_id}"), {})


@page("POST", _PATH)
def save_limits(visit: Visit, campaign_id: str) -> HttpAnswer:
    """What differs only: a new `intake` counts from now, and the audit log tells who has changed what."""
    campaign, typed = visit.api.get(f"/v1/campaigns/{campaign_id}"), typed_fields(visit)
    given = {name: typed[name] for name, field in _FIELDS.items() if field in visit.form}
    try:
        if changes := differing(given, campaign):
            visit.api.patch(f"/v1/campaigns/{campaign_id}", changes)
    except ApiRefused as refused:
        return _page(visit, campaign, given, refused)
    return redirect(f"{ROOT}/campaigns/{campaign_id}?done=limits")


def changeable(api: Api, campaign: Any) -> set[str]:
    """What of a campaign under way the caller may change."""
    if campaign["status"] not in (CampaignStatus.RUNNING, CampaignStatus.PAUSED):
        return set()
    if not api.may("PATCH /v1/campaigns/<campaign_id>"):
        return set()
    found = {"guardrails"}
    caps = {"new_leads_per_day", "new_leads_per_company_per_day"}
    # One that has started without any cannot get one.
    if campaign["sender_ids"] or any(campaign[name] is not None for name in caps):
        found |= caps
    is_over = campaign["intake_ended_at"] or _is_past(campaign["end_at"])
    if campaign["evergreen"] and not is_over and api.may("POST /v1/campaigns/<campaign_id>/leads"):
        found |= {"end_at", "intake"}
    return found


def _is_past(time: str | None) -> bool:
    return time is not None and dt.datetime.fromisoformat(time) <= dt.datetime.now(dt.UTC)


def _page(visit: Visit, stored: Any, typed: dict[str, Any], refused: ApiRefused | None = None) -> HttpAnswer:
    return visit.page(
        "campaign_limits.html",
        status=refused.status if refused else 200,
        campaign={**stored, **typed},
        changeable=changeable(visit.api, stored),
        problem=refused and refused.problem,
    )
