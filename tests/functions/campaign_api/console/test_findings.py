"""Each finding of a preflight leads to the page that fixes it."""

from __future__ import annotations

from typing import Any

import pytest

from console.findings import link_to_fix

STEPS = [
    {"email_template_id": "t1", "variants": [{"email_template_id": "t1"}]},
    {"email_template_id": "t2", "variants": [{"email_template_id": "t2"}, {"email_template_id": "t3"}]},
    {"email_template_id": None, "variants": []},
]
WITH_WORKFLOW = {"id": "c", "workflow_id": "w", "email_template_id": None}


@pytest.mark.parametrize(
    ("check", "detail", "path"),
    [
        ("templates", {"step_number": 1}, "/console/templates/t1"),
        ("content", {"step_number": 2, "variant": 2}, "/console/templates/t3"),
        ("variables", {"step_number": 2, "variant": 1}, "/console/templates/t2"),
        # A text in the workflow itself.
        ("placeholders", {"step_number": 3}, "/console/workflows/w"),
        ("variants", {"step_number": 2, "of_step": 1}, "/console/workflows/w"),
        ("content", {"errors": [{"field": "workflow_id"}]}, "/console/workflows/w"),
        ("content", {"errors": [{"field": "steps.2.variants.1"}]}, "/console/workflows/w"),
        # Steps that need what the campaign does not have.
        ("content", {"errors": [{"field": "track_opens"}]}, "/console/campaigns/c/edit/senders"),
        ("content", {"errors": [{"field": "sending_schedule_id"}]}, "/console/campaigns/c/edit/senders"),
        ("leads", {"leads_left_out": {}}, "/console/campaigns/c/edit/leads"),
        ("sender", {"sender_id": "s"}, "/console/settings/senders"),
        ("sender", {"cause": "no_tick"}, "/console/sending"),
        ("dmarc", {}, "/console/sending"),
        ("postal_address", {}, None),
        # Not all leads were tried out.
        ("templates", {}, None),
    ],
)
def test_finding_leads_to_where_it_is_fixed(check: str, detail: dict[str, Any], path: str | None) -> None:
    link = link_to_fix({"check": check, "detail": detail}, WITH_WORKFLOW, STEPS)
    assert (link and link[1]) == path


@pytest.mark.parametrize("template_id", [None, "t1"])
def test_content_of_a_campaign_without_a_workflow_is_chosen_anew(template_id: str | None) -> None:
    campaign = {"id": "c", "workflow_id": None, "email_template_id": template_id}
    errors = [{"field": "email_template_id", "message": "there is none"}]
    link = link_to_fix({"check": "content", "detail": {"errors": errors}}, campaign, [])
    assert link == ("Choose its content", "/console/campaigns/c/edit/content")
