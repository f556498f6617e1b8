"""The demo's loading and the view of its progress."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import sqlalchemy as sa

from local.api_client import ApiClient, ApiError
from local.demo import load_demo, past_campaigns
from local.ses_simulator import SesSimulator
from local.stack import LocalStack
from local.stop_request import StopRequest
from local.watch_campaign import line, table, watch
from testbed.campaigns import pass_time
from tests.acceptance.campaign_story import call, rows, upload_leads

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NONE = {"pending": 0, "sending": 0, "sent": 0, "failed": 0, "skipped": 0, "cancelled": 0}
STATS = {
    "status": "running",
    "by_step": [
        {"step_number": 1, "by_status": {**NONE, "sent": 13, "failed": 1}},
        {"step_number": 2, "by_status": {**NONE, "pending": 13, "skipped": 1}},
    ],
    "next_due_at": (NOW + timedelta(seconds=42)).isoformat(),
}


@pytest.fixture
def client(stack: LocalStack, api: httpx.Client) -> ApiClient:
    return ApiClient(stack.url, api.headers["Authorization"].removeprefix("Bearer "))


def test_every_lead_gets_a_rendered_email_of_every_step(
    client: ApiClient, api: httpx.Client, stack: LocalStack, engine: sa.Engine
) -> None:
    campaign = load_demo.load(client)
    for _ in range(3):
        stack.tick()
        pass_time(engine, timedelta(minutes=1))
    assert {row["status"] for row in rows(api, campaign["id"])} == {"sent"}
    emails = [call(api, "GET", f"/v1/emails/{row['email_id']}") for row in rows(api, campaign["id"])]
    assert len(emails) == 42
    assert all(email["body_text"] and email["body_html"] for email in emails)


def test_an_interrupted_load_goes_on_where_it_stopped(client: ApiClient, api: httpx.Client) -> None:
    load_demo.load(client)
    campaign_id = call(api, "GET", "/v1/campaigns")["items"][0]["id"]
    call(api, "POST", f"/v1/campaigns/{campaign_id}/cancel")
    call(api, "DELETE", f"/v1/campaigns/{campaign_id}", 204)
    assert load_demo.may_load(client)
    load_demo.load(client)
    for path in ("lead-batches", "workflows", "campaigns"):
        assert len(call(api, "GET", f"/v1/{path}")["items"]) == 1
    assert len(call(api, "GET", "/v1/email-templates")["items"]) == 3


def test_campaigns_of_the_weeks_before_are_in_different_states_and_send_nothing(
    client: ApiClient, api: httpx.Client, stack: LocalStack, engine: sa.Engine, ses: SesSimulator
) -> None:
    load_demo.load(client)
    past_campaigns.load(client, engine)
    stack.tick()
    shown = {campaign["name"]: campaign for campaign in call(api, "GET", "/v1/campaigns")["items"]}
    completed, running, paused = (shown[name] for name in past_campaigns.CAMPAIGNS)
    assert [each["status"] for each in (completed, running, paused)] == ["completed", "running", "paused"]
    stats = call(api, "GET", f"/v1/campaigns/{running['id']}/stats")
    replies = call(api, "GET", f"/v1/replies?campaign_id={running['id']}&limit=200")["items"]
    # Who has replied gets no further email.
    assert 0 < len(replies) == running["emails_replied_count"] == stats["by_status"]["skipped"]
    assert (stats["by_status"]["sent"], stats["by_status"]["pending"]) == (480, 240 - len(replies))
    assert 0 < stats["rates"]["opened"] < 1
    timeline = call(api, "GET", f"/v1/campaigns/{running['id']}/timeline?interval=day")["items"]
    assert sum(day["sent"] > 0 for day in timeline) >= 20
    plan = call(api, "GET", f"/v1/campaigns/{running['id']}/plan")
    assert sum(day["emails"] > 0 for day in plan["days"]) >= 10
    assert not any("practice-" in address for mail in ses.accepted() for address in mail.to)


def test_a_database_in_use_gets_no_demo(client: ApiClient, api: httpx.Client) -> None:
    assert load_demo.may_load(client)
    upload_leads(api, ["ann@example.com"])
    assert not load_demo.may_load(client)


def test_a_refused_call_is_an_error_with_the_answer(stack: LocalStack) -> None:
    with pytest.raises(ApiError, match="GET /v1/leads: 401 "):
        ApiClient(stack.url, "sl_wrong").get("/v1/leads")


def test_the_progress_is_shown_until_somebody_stops_it(client: ApiClient) -> None:
    campaign = load_demo.load(client)
    output, stopping = io.StringIO(), StopRequest()
    stopping.set()
    assert watch(client, campaign, output, stopping, patience=60) == "running"
    assert output.getvalue().startswith(
        "running; step 1: 14 pending; step 2: 14 pending; step 3: 14 pending; next due "
    )


def test_the_table_has_a_row_for_each_step() -> None:
    assert table(STATS, NOW) == [
        " step     pending    sending       sent     failed    skipped  cancelled",
        "    1           0          0         13          1          0          0",
        "    2          13          0          0          0          1          0",
        "  running, next due in 42 s",
    ]


def test_the_line_shows_only_existing_results() -> None:
    assert (
        line(STATS)
        == "running; step 1: 13 sent, 1 failed; step 2: 13 pending, 1 skipped; next due 2026-01-01T00:00:42Z"
    )
