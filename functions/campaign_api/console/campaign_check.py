"""The stages of preparing a campaign that show what would be sent: its check, and what some of its leads would get."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from console.api_calls import Api
from console.campaign_form import can_edit, stages
from console.findings import link_to_fix
from console.segment_pages import LOOKED_THROUGH
from console.template_pages import preview
from console.visit import HttpAnswer, Visit, page

MOST_AT_ONCE = 20_000
"""Leads whose check its page waits for. With more of them it is loaded after the page."""
MOST_BATCHES = 20
"""Lead batches that are asked how many leads they have."""
PREVIEWS = 3
"""Leads for whom an email is shown."""
MOST_SOURCES = 5
"""Lead batches and segments that are looked through for them."""


@page("GET", "/campaigns/<draft_id:id>/edit/check")
def check_campaign(visit: Visit, draft_id: str) -> HttpAnswer:
    campaign = visit.api.get(f"/v1/campaigns/{draft_id}")
    is_draft = can_edit(campaign)
    is_later = is_draft and comes_later(visit, campaign)
    return visit.page(
        "campaign_check.html",
        campaign=campaign,
        stages=stages(campaign),
        is_draft=is_draft,
        is_later=is_later,
        preflight=preflight_of(visit.api, campaign) if is_draft and not is_later else None,
    )


@page("GET", "/campaigns/<draft_id:id>/edit/check/part")
def show_check(visit: Visit, draft_id: str) -> HttpAnswer:
    """The part of the check's page that is loaded after it."""
    campaign = visit.api.get(f"/v1/campaigns/{draft_id}")
    preflight = preflight_of(visit.api, campaign)
    return visit.page("campaign_check_part.html", campaign=campaign, preflight=preflight)


@page("GET", "/campaigns/<draft_id:id>/edit/preview")
def preview_campaign(visit: Visit, draft_id: str) -> HttpAnswer:
    """One step, as some of the leads would get it."""
    api = visit.api
    campaign = api.get(f"/v1/campaigns/{draft_id}")
    steps = _steps(api, campaign)
    wanted = visit.query.get("step", "")
    number = int(wanted) if wanted in map(str, range(1, len(steps) + 1)) else 1
    template_id = str(steps[number - 1]["email_template_id"] or "") if steps else ""
    leads = _some_leads(api, campaign) if template_id else []
    place = {"campaign_name": campaign["name"]}
    if campaign["workflow_id"] and steps:
        # In a thread it has the subject of the email that it answers.
        place |= {"workflow_id": campaign["workflow_id"], "step_number": steps[number - 1]["step_number"]}
    return visit.page(
        "campaign_preview.html",
        campaign=campaign,
        stages=stages(campaign),
        steps=steps,
        number=number,
        template_id=template_id,
        previews=[{"lead": lead, **preview(api, template_id, lead["id"], **place)} for lead in leads],
    )


def comes_later(visit: Visit, campaign: Any) -> bool:
    """Whether what a preflight finds is loaded after the page: it looks at each lead. With `wait` the page does."""
    batch_ids = campaign["batch_ids"]
    if visit.query.get("wait"):
        return False
    if campaign["segment_ids"] or len(batch_ids) > MOST_BATCHES:
        return True
    batches = filter(None, (visit.api.find("/v1/lead-batches", batch_id) for batch_id in batch_ids))
    return sum(batch["successful_imports"] or 0 for batch in batches) > MOST_AT_ONCE


def preflight_of(api: Api, campaign: Any) -> Any:
    """What the preflight finds, each finding with the link to where it is fixed."""
    found, steps = api.get(f"/v1/campaigns/{campaign['id']}/preflight"), _steps(api, campaign)
    for finding in (*found["errors"], *found["warnings"]):
        finding["fix"] = link_to_fix(finding, campaign, steps)
    return found


def _steps(api: Api, campaign: Any) -> Sequence[Any]:
    """What it would send, in order."""
    if campaign["workflow_id"]:
        steps = api.get(f"/v1/workflows/{campaign['workflow_id']}")["steps"]
        return sorted(steps, key=lambda step: int(step["step_number"]))
    template_id = campaign["email_template_id"]
    return [{"email_template_id": template_id, "variants": []}] if template_id else []


def _some_leads(api: Api, campaign: Any) -> list[Any]:
    """Of its lead batches and segments. Leads that were chosen one by one are not listed by the API."""

    def found() -> Iterator[Any]:
        for batch_id in campaign["batch_ids"][:MOST_SOURCES]:
            yield from api.get("/v1/leads", limit=PREVIEWS, batch_id=batch_id)["items"]
        for segment_id in campaign["segment_ids"][:MOST_SOURCES]:
            path = f"/v1/segments/{segment_id}/leads"
            yield from api.get(path, limit=PREVIEWS, scan_limit=LOOKED_THROUGH)["items"]

    different: dict[str, Any] = {}
    for lead in found():
        different[lead["id"]] = lead
        if len(different) == PREVIEWS:
            break
    return list(different.values())
