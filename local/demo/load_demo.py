"""Loads the demo through the HTTP API, as a user would. It continues where an interrupted run has stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from local.api_client import ApiClient

CAMPAIGN = "Online booking for independent practices"
LEADS = "Practices without online booking"
_WORKFLOW = "Introduction, follow-up, last word"
_FOLDER = Path(__file__).parent

_STEPS = (
    ("introduction", "{{ company_name }}: booking without the telephone", 0),
    ("follow_up", "What {{ company_name }} misses after opening hours", 1),
    ("last_word", "{{ first_name | default('One last word') }}, shall I close the file?", 1),
)
"""Email template, its subject, and the minutes after the step before it."""


def may_load(api: ApiClient) -> bool:
    """Whether the database is empty, or holds nothing but what an interrupted run has loaded."""
    campaigns = [(campaign["name"], campaign["status"]) for campaign in api.list("/v1/campaigns")]
    batches = [batch["name"] for batch in api.list("/v1/lead-batches")]
    workflows = [workflow["name"] for workflow in api.list("/v1/workflows")]
    return campaigns in ([], [(CAMPAIGN, "draft")]) and batches in ([], [LEADS]) and workflows in ([], [_WORKFLOW])


def load(api: ApiClient) -> Any:
    """The demo's campaign, started."""
    print("Loading the demo")
    batch = _named(api, "/v1/lead-batches", LEADS)
    if batch is None:
        batch = api.post_csv("/v1/lead-batches", (_FOLDER / "leads.csv").read_bytes(), name=LEADS)
    print(
        f"  leads.csv     {batch['total_leads']} rows: {batch['successful_imports']} leads, "
        f"{batch['duplicates_skipped']} duplicates, {batch['failed_imports']} broken"
    )
    for error in batch.get("errors", ()):
        print(f"                row {error['row']}: {error['message']}")
    workflow = _named(api, "/v1/workflows", _WORKFLOW)
    if workflow is None:
        steps = [
            {
                "step_number": number,
                "email_template_id": _email_template(api, name, subject)["id"],
                "delay": {"value": minutes, "unit": "minutes"},
            }
            for number, (name, subject, minutes) in enumerate(_STEPS, start=1)
        ]
        workflow = api.post("/v1/workflows", {"name": _WORKFLOW, "steps": steps})
    print(f"  a workflow    of {workflow['steps_count']} steps, one minute apart, each with its email template")
    campaign = _named(api, "/v1/campaigns", CAMPAIGN)
    if campaign is None:
        fields = {"name": CAMPAIGN, "batch_ids": [batch["id"]], "workflow_id": workflow["id"]}
        fields |= {"track_opens": True, "track_clicks": True}
        campaign = api.post("/v1/campaigns", fields)
    started = api.post(f"/v1/campaigns/{campaign['id']}/start")
    print(
        f"  a campaign    started: {started['emails_scheduled_count']} emails for "
        f"{started['total_leads_targeted']} leads\n"
    )
    return campaign


def _email_template(api: ApiClient, name: str, subject: str) -> Any:
    found = _named(api, "/v1/email-templates", name)
    if found is not None:
        return found
    bodies = {
        "body_text": (_FOLDER / "email_templates" / f"{name}.txt").read_text(),
        "body_html": (_FOLDER / "email_templates" / f"{name}.html").read_text(),
    }
    return api.post("/v1/email-templates", {"name": name, "subject": subject, **bodies})


def _named(api: ApiClient, path: str, name: str) -> Any | None:
    return next((item for item in api.list(path) if item["name"] == name), None)
