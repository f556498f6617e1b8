"""What a user does through the HTTP API to get a campaign under way, and what there is to see of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import httpx


def call(api: httpx.Client, method: str, path: str, status: int = 200, **request: Any) -> Any:
    """The JSON answer, which must have this status."""
    response = api.request(method, path, **request)
    assert response.status_code == status, f"{method} {path}: {response.status_code} {response.text}"
    return response.json() if response.content else None


def upload_leads(api: httpx.Client, addresses: Sequence[str]) -> str:
    """The id of a lead batch with these leads."""
    rows = [f"Lead{number},{address},Company {number}" for number, address in enumerate(addresses)]
    csv = "\n".join(["First Name,Email,Company", *rows])
    batch = call(
        api,
        "POST",
        "/v1/lead-batches",
        201,
        params={"name": "Leads"},
        content=csv.encode(),
        headers={"Content-Type": "text/csv"},
    )
    assert batch["successful_imports"] == len(addresses), batch
    return str(batch["id"])


def make_workflow(api: httpx.Client, days_after_previous: Sequence[int]) -> str:
    """The id of a workflow with an email template for each step."""
    steps = []
    for number, days in enumerate(days_after_previous, start=1):
        fields = {
            "name": f"Step {number}",
            "subject": f"Step {number} for {{{{ company_name }}}}",
            "body_text": "Hello {{ first_name | default('there') }}",
        }
        template = call(api, "POST", "/v1/email-templates", 201, json=fields)
        steps.append({"step_number": number, "email_template_id": template["id"], "days_after_previous": days})
    return str(call(api, "POST", "/v1/workflows", 201, json={"name": "Workflow", "steps": steps})["id"])


def make_campaign(api: httpx.Client, addresses: Sequence[str], days_after_previous: Sequence[int]) -> str:
    """The id of a draft campaign."""
    fields = {
        "name": "Campaign",
        "batch_ids": [upload_leads(api, addresses)],
        "workflow_id": make_workflow(api, days_after_previous),
    }
    return str(call(api, "POST", "/v1/campaigns", 201, json=fields)["id"])


def act(api: httpx.Client, campaign_id: str, action: str, status: int = 200) -> Any:
    return call(api, "POST", f"/v1/campaigns/{campaign_id}/{action}", status)


def campaign(api: httpx.Client, campaign_id: str) -> Any:
    return call(api, "GET", f"/v1/campaigns/{campaign_id}")


def rows(api: httpx.Client, campaign_id: str) -> list[Any]:
    """The campaign's scheduled emails, all pages of them."""
    found: list[Any] = []
    cursor: str | None = None
    while True:
        params: dict[str, Any] = {"limit": 100, **({"cursor": cursor} if cursor else {})}
        page = call(api, "GET", f"/v1/campaigns/{campaign_id}/scheduled-emails", params=params)
        found += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return found


def statuses(api: httpx.Client, campaign_id: str) -> dict[str, int]:
    return dict(Counter(row["status"] for row in rows(api, campaign_id)))


def due_times(api: httpx.Client, campaign_id: str) -> dict[int, datetime]:
    """When each scheduled email is due, by its id."""
    return {row["id"]: datetime.fromisoformat(row["scheduled_for"]) for row in rows(api, campaign_id)}
