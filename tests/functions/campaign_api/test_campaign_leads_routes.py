"""Taking a lead out of a campaign that is under way."""

from __future__ import annotations

import uuid

import pytest
import sqlalchemy as sa

from sendledger.campaigns import lifecycle
from testbed.campaigns import DAY, NO_DELAY, make_campaign, rows_of, statuses
from tests.functions.campaign_api.api_client import ApiClient

NOBODY = "123e4567-e89b-12d3-a456-426614174000"


@pytest.fixture
def campaign_id(engine: sa.Engine, connection: sa.Connection) -> uuid.UUID:
    """It runs: two steps to two leads."""
    created = make_campaign(connection, 2, [NO_DELAY, DAY])
    lifecycle.start_campaign(engine, created)
    return created


def path(engine: sa.Engine, campaign_id: uuid.UUID, lead: int = 0) -> str:
    leads = sorted({row["lead_id"] for row in rows_of(engine, campaign_id)})
    return f"/v1/campaigns/{campaign_id}/leads/{leads[lead]}"


def change_rows(engine: sa.Engine, assignments: str, where: str) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE scheduled_emails SET {assignments} WHERE {where}"))


def reasons(engine: sa.Engine, campaign_id: uuid.UUID) -> list[str | None]:
    return sorted((row["reason"] for row in rows_of(engine, campaign_id)), key=str)


def test_lead_that_is_removed_gets_nothing_more(api: ApiClient, engine: sa.Engine, campaign_id: uuid.UUID) -> None:
    removed = api.delete(path(engine, campaign_id))
    assert (removed.status, removed.json) == (200, {"status": "running", "emails_cancelled": 2})
    assert statuses(engine, campaign_id) == {"cancelled": 2, "pending": 2}
    assert reasons(engine, campaign_id) == [None, None, "lead_removed", "lead_removed"]
    entry = api.get("/v1/audit-log", sort="-id", limit=1).json["items"][0]
    lead_id = path(engine, campaign_id).rpartition("/")[2]
    assert (entry["action"], entry["entity_id"]) == ("campaign.lead_remove", str(campaign_id))
    assert entry["detail"] == {"lead_id": lead_id, "emails": 2}


def test_removing_a_lead_again_does_nothing(api: ApiClient, engine: sa.Engine, campaign_id: uuid.UUID) -> None:
    api.delete(path(engine, campaign_id))
    before = len(api.get("/v1/audit-log").json["items"])
    assert api.delete(path(engine, campaign_id)).json == {"status": "running", "emails_cancelled": 0}
    assert len(api.get("/v1/audit-log").json["items"]) == before


def test_campaign_is_completed_with_its_last_lead(api: ApiClient, engine: sa.Engine, campaign_id: uuid.UUID) -> None:
    api.delete(path(engine, campaign_id, 0))
    assert api.delete(path(engine, campaign_id, 1)).json == {"status": "completed", "emails_cancelled": 2}
    assert api.get(f"/v1/campaigns/{campaign_id}").json["status"] == "completed"


def test_resume_does_not_bring_a_removed_lead_back(api: ApiClient, engine: sa.Engine, campaign_id: uuid.UUID) -> None:
    api.post(f"/v1/campaigns/{campaign_id}/pause")
    assert api.delete(path(engine, campaign_id)).json == {"status": "paused", "emails_cancelled": 2}
    assert api.post(f"/v1/campaigns/{campaign_id}/resume").json["emails_rescheduled"] == 2
    assert statuses(engine, campaign_id) == {"cancelled": 2, "pending": 2}


def test_retry_does_not_bring_a_removed_lead_back(api: ApiClient, engine: sa.Engine, campaign_id: uuid.UUID) -> None:
    failed = "status = 'failed', error_code = 'bad_request', failed_at = now()"
    change_rows(engine, failed, "workflow_step_number = 1")
    change_rows(engine, "status = 'skipped', reason = 'previous_step_failed'", "workflow_step_number = 2")
    retry = f"/v1/campaigns/{campaign_id}/retry-failed"
    assert api.get(retry).json["emails"] == 2
    assert api.delete(path(engine, campaign_id)).json["emails_cancelled"] == 1
    assert api.get(retry).json["emails"] == 1


@pytest.mark.parametrize("error_code", ["bad_request", "outcome_unknown"])
def test_removed_lead_gets_nothing_more_although_all_its_emails_had_ended(
    api: ApiClient, engine: sa.Engine, campaign_id: uuid.UUID, error_code: str
) -> None:
    failed = f"status = 'failed', error_code = '{error_code}', failed_at = now(), send_started_at = now()"
    change_rows(engine, failed, "workflow_step_number = 1")
    change_rows(engine, "status = 'skipped', reason = 'lead_responded'", "workflow_step_number = 2")
    lead = path(engine, campaign_id)

    assert api.delete(lead).json["emails_cancelled"] == 0

    own = [row for row in rows_of(engine, campaign_id) if str(row["lead_id"]) == lead.rpartition("/")[2]]
    assert [(row["status"], row["reason"]) for row in own] == [
        ("failed", "lead_removed"),
        ("skipped", "lead_responded"),
    ]
    if error_code == "outcome_unknown":
        assert api.post(f"/v1/scheduled-emails/{own[0]['id']}/requeue").status == 409
    else:
        assert api.get(f"/v1/campaigns/{campaign_id}/retry-failed").json["emails"] == 1


def test_what_a_removed_lead_was_sent_stays(api: ApiClient, engine: sa.Engine, campaign_id: uuid.UUID) -> None:
    change_rows(engine, "status = 'sent', sent_at = now()", "workflow_step_number = 1")
    assert api.delete(path(engine, campaign_id)).json["emails_cancelled"] == 1
    assert statuses(engine, campaign_id) == {"sent": 2, "pending": 1, "cancelled": 1}


def test_lead_is_not_removed_while_an_email_to_it_is_on_its_way(
    api: ApiClient, engine: sa.Engine, campaign_id: uuid.UUID
) -> None:
    claimed = "status = 'sending', claim_token = gen_random_uuid(), lease_until = now()"
    change_rows(engine, claimed, "workflow_step_number = 1")
    answer = api.delete(path(engine, campaign_id))
    assert (answer.status, answer.json["current_status"]) == (409, "running")
    assert statuses(engine, campaign_id) == {"sending": 2, "pending": 2}


def test_lead_is_not_removed_while_its_campaign_is_being_scheduled(
    api: ApiClient, engine: sa.Engine, campaign_id: uuid.UUID
) -> None:
    with engine.begin() as connection:
        work = """UPDATE campaigns SET background_work = '[{"kind": "schedule", "bucket": 1, "buckets": 2}]'"""
        connection.execute(sa.text(work.replace(":", "\\:")))
    answer = api.delete(path(engine, campaign_id))
    assert (answer.status, "being scheduled" in answer.json["detail"]) == (409, True)


def test_lead_that_an_intake_may_still_bring_in_is_not_unknown(
    api: ApiClient, engine: sa.Engine, campaign_id: uuid.UUID
) -> None:
    with engine.begin() as connection:
        work = """UPDATE campaigns SET background_work = '[{"kind": "intake", "bucket": 1, "buckets": 2}]'"""
        connection.execute(sa.text(work.replace(":", "\\:")))
    assert api.delete(f"/v1/campaigns/{campaign_id}/leads/{NOBODY}").status == 409
    assert api.delete(path(engine, campaign_id)).json["emails_cancelled"] == 2


def test_lead_that_the_campaign_does_not_have_is_not_found(api: ApiClient, campaign_id: uuid.UUID) -> None:
    assert api.delete(f"/v1/campaigns/{campaign_id}/leads/{NOBODY}").status == 404
    assert api.delete(f"/v1/campaigns/{NOBODY}/leads/{NOBODY}").status == 404


@pytest.mark.parametrize("status", ["draft", "completed", "cancelled"])
def test_lead_of_a_campaign_that_is_not_under_way_is_not_removed(
    api: ApiClient, engine: sa.Engine, campaign_id: uuid.UUID, status: str
) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE campaigns SET status = :status"), {"status": status})
    answer = api.delete(path(engine, campaign_id))
    assert (answer.status, answer.json["current_status"]) == (409, status)
