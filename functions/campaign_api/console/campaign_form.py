"""The pages on which a campaign is prepared, stage by stage. Each has its address and saves its part of the draft.

The stages after them, which show what would be sent, are in campaign_check.py; the last one is the start.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from console.api_calls import ApiRefused
from console.policy_pages import number_in
from console.visit import ROOT, HttpAnswer, Visit, page, redirect
from sendledger.core.vocabulary import STARTABLE_STATUSES, StartType

_SHARES = ("max_bounce_rate", "max_complaint_rate")
_WHOLE_NUMBERS = ("min_emails", "window_hours", "max_provider_errors")
_TIMES = ("end_at", "scheduled_start_at")
_NEW: dict[str, Any] = {
    "name": "",
    "batch_ids": [],
    "evergreen": False,
    "end_at": None,
    "intake": None,
    "segment_ids": [],
    "lead_ids_count": 0,
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
FORMS: Mapping[str, tuple[str, ...]] = {
    "leads": ("name", "batch_ids", "segment_ids", "evergreen", "end_at", "intake"),
    "content": ("email_template_id", "workflow_id"),
    "senders": (
        *("start_type", "scheduled_start_at", "sending_schedule_id", "sender_ids"),
        *("new_leads_per_day", "new_leads_per_company_per_day", "from_address", "reply_to_address"),
        *("track_opens", "track_clicks", "guardrails"),
    ),
}
"""The stages with a form, each with the fields of the API that it saves."""
_TITLES = {
    "leads": "Leads",
    "content": "Content",
    "senders": "Senders and schedule",
    "check": "Check",
    "preview": "Preview",
    "start": "Start",
}
_FORM = f"/campaigns/<draft_id:id>/edit/(?P<stage>{'|'.join(FORMS)})"


class Stage(NamedTuple):
    """`path` is empty where the campaign has to be saved first; `state` where there is nothing to do but to look."""

    name: str
    title: str
    path: str
    state: str


@page("GET", "/campaigns/new")
def new_campaign(visit: Visit) -> HttpAnswer:
    batch_id = visit.query.get("batch_id")
    return _form(visit, "leads", _NEW, {"batch_ids": [batch_id] if batch_id else []})


@page("POST", "/campaigns/new")
def create_campaign(visit: Visit) -> HttpAnswer:
    typed = _typed(visit, "leads")
    try:
        created = visit.api.post("/v1/campaigns", typed, visit.form.get("request", ""))
    except ApiRefused as refused:
        return _form(visit, "leads", _NEW, typed, refused)
    return redirect(path_of(created["id"], "content"))


@page("GET", "/campaigns/<draft_id:id>/edit")
def go_on(visit: Visit, draft_id: str) -> HttpAnswer:
    """To the first stage that is still to do."""
    first, *others = stages(visit.api.get(f"/v1/campaigns/{draft_id}"))
    return redirect(next((stage.path for stage in (first, *others) if stage.state == "to do"), first.path))


@page("GET", _FORM)
def edit_campaign(visit: Visit, draft_id: str, stage: str) -> HttpAnswer:
    return _form(visit, stage, visit.api.get(f"/v1/campaigns/{draft_id}"))


@page("POST", _FORM)
def save_campaign(visit: Visit, draft_id: str, stage: str) -> HttpAnswer:
    stored, typed = visit.api.get(f"/v1/campaigns/{draft_id}"), _typed(visit, stage)
    try:
        visit.api.patch(f"/v1/campaigns/{draft_id}", differing(typed, stored))
    except ApiRefused as refused:
        return _form(visit, stage, stored, typed, refused)
    names = list(_TITLES)
    return redirect(path_of(draft_id, names[names.index(stage) + 1]))


def can_edit(campaign: Any) -> bool:
    """Whether the whole campaign can be changed, or only its name and its limits."""
    return campaign["status"] in set(STARTABLE_STATUSES)


def stages(campaign: Mapping[str, Any]) -> list[Stage]:
    """All of them, in order, for a campaign that may not be stored yet."""
    has_leads = any(campaign[name] for name in ("batch_ids", "segment_ids", "evergreen", "lead_ids_count"))
    has_content = campaign["email_template_id"] or campaign["workflow_id"]
    is_set = any(campaign[name] != _NEW[name] for name in FORMS["senders"])
    states = {
        "leads": "done" if has_leads else "to do",
        "content": "done" if has_content else "to do",
        "senders": "done" if is_set else "optional",
    }
    paths = {"leads": f"{ROOT}/campaigns/new"}
    if "id" in campaign:
        paths = {name: path_of(campaign["id"], name) for name in _TITLES}
    return [Stage(name, title, paths.get(name, ""), states.get(name, "")) for name, title in _TITLES.items()]


def path_of(draft_id: str, stage: str) -> str:
    return f"{ROOT}/campaigns/{draft_id}/{stage}" if stage == "start" else f"{ROOT}/campaigns/{draft_id}/edit/{stage}"


def typed_fields(visit: Visit) -> dict[str, Any]:
    """What was typed, as the API takes it. A field that the form does not have is as if it was left empty."""
    kind, _, content_id = visit.form.get("content", "").partition(":")
    every = visit.form.get("intake_every", "").strip()
    return {
        "name": visit.form.get("name", ""),
        "batch_ids": visit.form_lists.get("batch_ids", []),
        "evergreen": visit.form.get("evergreen") == "yes",
        "end_at": _in_utc(visit.form.get("end_at", "")),
        "intake": {"every": every} if every else None,
        "segment_ids": visit.form_lists.get("segment_ids", []),
        "email_template_id": content_id if kind == "template" else None,
        "workflow_id": content_id if kind == "workflow" else None,
        "start_type": StartType.SCHEDULED if visit.form.get("start_type") == StartType.SCHEDULED else StartType.MANUAL,
        "scheduled_start_at": _in_utc(visit.form.get("scheduled_start_at", "")),
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


def differing(typed: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """What of a form differs from what is stored.

    A time that still stands in its field goes with the choice of a start at that time. A new one does not, and the API
    refuses it beside another choice.
    """
    changes = {name: value for name, value in typed.items() if _shown(name, value) != _shown(name, stored[name])}
    was_chosen = stored["start_type"] == StartType.SCHEDULED
    if was_chosen and "start_type" in changes and "scheduled_start_at" not in changes:
        changes["scheduled_start_at"] = None
    return changes


def _shown(name: str, value: Any) -> Any:
    """A browser's field has a time with minutes only."""
    return value[:16] if value and name in _TIMES else value


def _typed(visit: Visit, stage: str) -> dict[str, Any]:
    typed = typed_fields(visit)
    return {name: typed[name] for name in FORMS[stage]}


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
    """The date and time of a browser's field, or one with its zone. The API refuses any other text."""
    try:
        at = dt.datetime.fromisoformat(typed)
        return (at.astimezone(dt.UTC) if at.tzinfo else at.replace(tzinfo=dt.UTC)).isoformat()
    except (ValueError, OverflowError):
        return typed or None


def _form(
    visit: Visit,
    stage: str,
    stored: Mapping[str, Any],
    typed: Mapping[str, Any] | None = None,
    refused: ApiRefused | None = None,
) -> HttpAnswer:
    """The form of a stage, with what was typed over what is stored."""
    shown = {**stored, **(typed or {})}
    return visit.page(
        "campaign_form.html",
        status=refused.status if refused else 200,
        campaign_id=stored.get("id"),
        campaign=shown,
        stage=stage,
        stages=stages(stored),
        can_edit="id" not in stored or can_edit(stored),
        problem=refused and refused.problem,
        choices=_choices(visit, stage, shown),
    )


def _choices(visit: Visit, stage: str, shown: Mapping[str, Any]) -> dict[str, list[Any]]:
    """What can be chosen in a stage."""

    def choice(path: str, chosen: Iterable[str | None], **query: object) -> list[Any]:
        """The first of a list, and what is chosen: saving must not lose it."""
        listed: list[Any] = api.get(path, **query)["items"]
        others = sorted({each for each in chosen if each} - {each["id"] for each in listed})
        return [*listed, *filter(None, (api.find(path, id_) for id_ in others))]

    api = visit.api
    if stage == "leads":
        return {
            "batches": choice("/v1/lead-batches", shown["batch_ids"], limit=100),
            "segments": choice("/v1/segments", shown["segment_ids"], limit=100),
        }
    if stage == "content":
        return {
            "workflows": choice("/v1/workflows", [shown["workflow_id"]], limit=200, sort="name"),
            "templates": choice("/v1/email-templates", [shown["email_template_id"]], limit=200, sort="name"),
        }
    return {
        "schedules": choice("/v1/sending-schedules", [shown["sending_schedule_id"]], limit=200),
        "senders": choice("/v1/senders", shown["sender_ids"], limit=200),
    }
