"""Starting, pausing, resuming and cancelling through the API, and looking at how far a campaign is."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
import sqlalchemy as sa

from sendledger.core.tables import audit_log, campaigns
from testbed.campaigns import DAY, NO_DELAY, make_batch, make_campaign, make_template, statuses
from tests.functions.campaign_api.api_client import ApiClient

NOTHING = {"pending": 0, "sending": 0, "sent": 0, "failed": 0, "skipped": 0, "cancelled": 0}


@pytest.fixture
def path(connection: sa.Connection) -> str:
    """Of a draft: two steps, three leads of whom one has no address."""
    return f"/v1/campaigns/{make_campaign(connection, ['a@example.com', 'b@example.com', None], [NO_DELAY, DAY])}"


def test_start_schedules_and_says_whom_it_left_out(api: ApiClient, path: str) -> None:
    started = api.post(f"{path}/start")
    assert (started.status, started.json) == (
        200,
        {
            "status": "running",
            "total_leads_targeted": 2,
            "emails_scheduled_count": 4,
            "leads_left_out": {"no_address": 1},
            "scheduled_start_at": None,
            "background_work": [],
        },
    )
    shown = api.get(path).json
    assert shown["status"] == "running"
    assert shown["actual_started_at"].endswith("Z")
    assert shown["leads_left_out"] == {"no_address": 1}


def test_campaign_that_is_to_start_later_is_scheduled(api: ApiClient, connection: sa.Connection) -> None:
    later = dt.datetime(2090, 1, 1, tzinfo=dt.UTC)
    campaign_id = make_campaign(connection, 1, start_type="scheduled", scheduled_start_at=later)
    started = api.post(f"/v1/campaigns/{campaign_id}/start")
    assert started.status == 200
    assert (started.json["status"], started.json["scheduled_start_at"]) == ("scheduled", "2090-01-01T00:00:00Z")


def test_paused_campaign_goes_on_where_it_was(api: ApiClient, path: str) -> None:
    api.post(f"{path}/start")
    paused = api.post(f"{path}/pause")
    assert (paused.status, paused.json) == (
        200,
        {"status": "paused", "emails_cancelled": 4, "emails_in_flight": 0, "background_work": []},
    )
    assert api.get(f"{path}/stats").json["by_status"] == NOTHING | {"cancelled": 4}
    resumed = api.post(f"{path}/resume")
    assert resumed.status == 200
    assert (resumed.json["status"], resumed.json["emails_rescheduled"]) == ("running", 4)
    assert resumed.json["shifted_by_seconds"] >= 0
    assert api.get(f"{path}/stats").json["by_status"] == NOTHING | {"pending": 4}


def test_cancelled_campaign_ends(api: ApiClient, path: str) -> None:
    api.post(f"{path}/start")
    cancelled = api.post(f"{path}/cancel")
    assert (cancelled.status, cancelled.json) == (
        200,
        {"status": "cancelled", "emails_cancelled": 4, "emails_in_flight": 0, "background_work": []},
    )
    assert api.post(f"{path}/resume").status == 409


@pytest.mark.parametrize("action", ["pause", "resume", "cancel"])
def test_action_that_the_status_does_not_allow_names_the_status(api: ApiClient, path: str, action: str) -> None:
    answer = api.post(f"{path}/{action}")
    assert answer.status == 409
    assert answer.json["type"] == "urn:sendledger:problem:illegal_transition"
    assert answer.json["current_status"] == "draft"
    assert "draft" in answer.json["detail"]


def test_second_start_is_refused(api: ApiClient, engine: sa.Engine, path: str) -> None:
    assert api.post(f"{path}/start").status == 200
    answer = api.post(f"{path}/start")
    assert (answer.status, answer.json["current_status"]) == (409, "running")
    assert statuses(engine, path.rpartition("/")[2]) == {"pending": 4}  # type: ignore[arg-type]


def test_batch_in_use_is_named_with_its_campaign(api: ApiClient, connection: sa.Connection) -> None:
    batch_id = make_batch(connection, ["a@example.com"])
    first, second = (make_campaign(connection, batch_ids=[batch_id]) for _ in range(2))
    api.post(f"/v1/campaigns/{first}/start")
    answer = api.post(f"/v1/campaigns/{second}/start")
    assert answer.status == 409
    assert (answer.json["lead_batch_id"], answer.json["campaign_id"]) == (str(batch_id), str(first))


def test_campaign_with_nobody_to_email_stays_a_draft(api: ApiClient, connection: sa.Connection) -> None:
    campaign_id = make_campaign(connection, [None, "not an address"])
    answer = api.post(f"/v1/campaigns/{campaign_id}/start")
    assert answer.status == 422
    assert answer.json["leads_left_out"] == {"no_address": 1, "invalid_address": 1}
    assert api.get(f"/v1/campaigns/{campaign_id}").json["status"] == "draft"


@pytest.mark.parametrize("type_", ["lead_generation", "fully_automated"])
def test_only_outreach_campaigns_can_be_started(api: ApiClient, type_: str) -> None:
    created = api.post("/v1/campaigns", {"name": "Find", "campaign_type": type_}).json
    answer = api.post(f"/v1/campaigns/{created['id']}/start")
    assert (answer.status, answer.fields) == (422, ["campaign_type"])


def test_stats_count_by_status_and_step(api: ApiClient, engine: sa.Engine, path: str) -> None:
    api.post(f"{path}/start")
    with engine.begin() as connection:
        connection.execute(
            sa.text("UPDATE scheduled_emails SET status = 'sent', sent_at = now() WHERE workflow_step_number = 1")
        )
        due = connection.scalar(sa.text("SELECT min(scheduled_for) FROM scheduled_emails WHERE status = 'pending'"))
    stats = api.get(f"{path}/stats")
    assert stats.status == 200
    assert stats.json["by_status"] == NOTHING | {"sent": 2, "pending": 2}
    names = ("step_number", "by_status", "variants", "winner")
    assert [{name: step[name] for name in names} for step in stats.json["by_step"]] == [
        {"step_number": 1, "by_status": NOTHING | {"sent": 2}, "variants": [], "winner": None},
        {"step_number": 2, "by_status": NOTHING | {"pending": 2}, "variants": [], "winner": None},
    ]
    assert dt.datetime.fromisoformat(stats.json["next_due_at"]) == due
    assert stats.json["emails_scheduled_count"] == 4


def test_stats_of_a_draft_are_zero(api: ApiClient, path: str) -> None:
    stats = api.get(f"{path}/stats").json
    assert (stats["by_status"], stats["by_step"], stats["next_due_at"]) == (NOTHING, [], None)


def test_audit_log_names_the_key(api: ApiClient, engine: sa.Engine, path: str) -> None:
    for action in ("start", "pause", "resume", "cancel"):
        api.post(f"{path}/{action}")
    with engine.connect() as connection:
        audited = connection.execute(
            sa.select(audit_log.c.action, audit_log.c.entity_id).order_by(audit_log.c.id)
        ).all()
        actors = set(connection.scalars(sa.select(audit_log.c.actor)))
        key_id = connection.scalar(sa.text("SELECT id FROM api_keys WHERE role = 'admin'"))
    assert audited == [
        (f"campaign.{action}", path.rpartition("/")[2]) for action in ("start", "pause", "resume", "cancel")
    ]
    assert actors == {f"api_key:{key_id}"}


def test_editing_the_template_does_not_change_a_campaign_that_runs(
    api: ApiClient, engine: sa.Engine, connection: sa.Connection
) -> None:
    template_id = make_template(connection, subject="Before")
    campaign_id = make_campaign(connection, 1, email_template_id=template_id)
    api.post(f"/v1/campaigns/{campaign_id}/start")
    assert api.patch(f"/v1/email-templates/{template_id}", {"subject": "After"}).status == 200
    with engine.connect() as looking:
        assert looking.scalar(sa.text("SELECT subject FROM campaign_steps")) == "Before"


def test_campaign_of_the_old_application_can_be_started(api: ApiClient, connection: sa.Connection) -> None:
    values: dict[str, Any] = {"campaign_type": "automated", "batch_id": make_batch(connection, ["a@example.com"])}
    campaign_id = make_campaign(connection, batch_ids=[], **values)
    assert api.post(f"/v1/campaigns/{campaign_id}/start").json["total_leads_targeted"] == 1
    connection.execute(sa.delete(campaigns).where(campaigns.c.id == campaign_id))
