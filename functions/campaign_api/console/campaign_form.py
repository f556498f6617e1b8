"""The page on which a campaign is prepared: who gets it, what is sent, and when it starts. It is saved as a draft."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from typing import Any

from console.api_calls import ApiRefused
from console.policy_pages import number_in
from console.visit import ROOT, HttpAnswer, Visit, page, redirect
from sendledger.core.vocabulary import STARTABLE_STATUSES, StartType

_SHARES = ("max_bounce_rate", "max_complaint_rate")
_WHOLE_NUMBERS = ("min_emails", "window_hours", "max_provider_errors")
_NEW: dict[str, Any] = {
    "name": "",
    "batch_ids": [],
    "evergreen": False,
    "end_at": None,
    "intake": None,
    "segment_ids": [],
    "email_template_id": None,
    "workflow_id": None,
    "start_type": StartType.MANUAL,
    "scheduled_start_at": None,
    "from_address": None,
    "reply_to_address": None,
    "sending_schedule_id": None,
    "sender_ids": [],
    "new_leads_per_day": None,
    "new_leads_per_company_per_day": None,
    "track_opens": False,
    "track_clicks": False,
    "guardrails": dict.fromkeys(("enabled", *_SHARES, *_WHOLE_NUMBERS)),
}


@page("GET", "/campaigns/new")
def new_campaign(visit: Visit) -> HttpAnswer:
    batch_id = visit.query.get("batch_id")
    return _form(visit, None, {**_NEW, "batch_ids": [batch_id] if batch_id else []})


@page("POST", "/campaigns/new")
def create_campaign(visit: Visit) -> HttpAnswer:
    typed = _typed(visit)
    try:
        created = visit.api.post("/v1/campaigns", typed, visit.form.get("request", ""))
    except ApiRefused as refused:
        return _form(visit, None, {**_NEW, **typed}, refused)
    return redirect(f"{ROOT}/campaigns/{created['id']}/start")


@page("GET", "/campaigns/<campaign_id:id>/edit")
def edit_campaign(visit: Visit, campaign_id: str) -> HttpAnswer:
    return _form(visit, campaign_id, visit.api.get(f"/v1/campaigns/{campaign_id}"))


@page("POST", "/campaigns/<campaign_id:id>/edit")
def save_campaign(visit: Visit, campaign_id: str) -> HttpAnswer:
    typed = _typed(visit)
    try:
        visit.api.patch(f"/v1/campaigns/{campaign_id}", typed)
    except ApiRefused as refused:
        return _form(visit, campaign_id, {**visit.api.get(f"/v1/campaigns/{campaign_id}"), **typed}, refused)
    return redirect(f"{ROOT}/campaigns/{campaign_id}/start")


def can_edit(campaign: Any) -> bool:
    """Whether the whole campaign can be changed, or only its name."""
    return campaign["status"] in set(STARTABLE_STATUSES)


def _typed(visit: Visit) -> dict[str, Any]:
    kind, _, content_id = visit.form.get("content", "").partition(":")
    every = visit.form.get("intake_every", "").strip()
    scheduled = visit.form.get("start_type") == StartType.SCHEDULED
    return {
        "name": visit.form.get("name", ""),
        "batch_ids": visit.form_lists.get("batch_ids", []),
        "evergreen": visit.form.get("evergreen") == "yes",
        "end_at": _in_utc(visit.form.get("end_at", "")),
        "intake": {"every": every} if every else None,
        "segment_ids": visit.form_lists.get("segment_ids", []),
        "email_template_id": content_id if kind == "template" else None,
        "workflow_id": content_id if kind == "workflow" else None,
        "start_type": StartType.SCHEDULED if scheduled else StartType.MANUAL,
        "scheduled_start_at": _in_utc(visit.form.get("scheduled_start_at", "")) if scheduled else None,
        "from_address": visit.form.get("from_address", "").strip() or None,
        "reply_to_address": visit.form.get("reply_to_address", "").strip() or None,
        "sending_schedule_id": visit.form.get("sending_schedule_id") or None,
        "sender_ids": visit.form_lists.get("sender_ids", []),
        "new_leads_per_day": number_in(visit.form.get("new_leads_per_day", "")),
        "new_leads_per_company_per_day": number_in(visit.form.get("new_leads_per_company_per_day", "")),
        "track_opens": visit.form.get("track_opens") == "yes",
        "track_clicks": visit.form.get("track_clicks") == "yes",
        "guardrails": _typed_guardrails(visit),
    }


def _typed_guardrails(visit: Visit) -> dict[str, Any]:
    """All limits, as a change replaces all. One that is not typed is None: the deployment's setting."""
    return {
        "enabled": {"on": True, "off": False}.get(visit.form.get("guardrails_enabled", "")),
        **{name: _share_in(visit.form.get(name, "")) for name in _SHARES},
        **{name: number_in(visit.form.get(name, "")) for name in _WHOLE_NUMBERS},
    }


def _share_in(typed: str) -> float | str | None:
    """None where nothing is typed; what is no number the API refuses."""
    text = typed.strip()
    is_number = re.fullmatch(r"\d{1,9}([.,]\d+)?(e-\d{1,3})?", text, re.ASCII)
    return float(text.replace(",", ".")) if is_number else text or None


def _in_utc(typed: str) -> str | None:
    """The date and time of a browser's field. The API refuses any other text."""
    try:
        return dt.datetime.fromisoformat(typed).replace(tzinfo=dt.UTC).isoformat()
    except ValueError:
        return typed or None


def _form(visit: Visit, campaign_id: str | None, shown: Any, refused: ApiRefused | None = None) -> HttpAnswer:
    def choice(path: str, chosen: Iterable[str | None], **query: object) -> list[Any]:
        """The first of a list, and what is chosen: saving must not lose it."""
        listed: list[Any] = api.get(path, **query)["items"]
        others = sorted({each for each in chosen if each} - {each["id"] for each in listed})
        return [*listed, *filter(None, (api.find(path, id_) for id_ in others))]

    api = visit.api
    return visit.page(
        "campaign_form.html",
        status=refused.status if refused else 200,
        campaign_id=campaign_id,
        campaign=shown,
        problem=refused and refused.problem,
        batches=choice("/v1/lead-batches", shown["batch_ids"], limit=100),
        segments=choice("/v1/segments", shown["segment_ids"], limit=100),
        workflows=choice("/v1/workflows", [shown["workflow_id"]], limit=200, sort="name"),
        templates=choice("/v1/email-templates", [shown["email_template_id"]], limit=200, sort="name"),
        schedules=choice("/v1/sending-schedules", [shown["sending_schedule_id"]], limit=200),
        senders=choice("/v1/senders", shown["sender_ids"], limit=200),
    )
