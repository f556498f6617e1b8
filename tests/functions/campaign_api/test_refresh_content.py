"""A paused campaign goes on with corrected content: what is not sent yet gets it, and nothing else changes."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from sendledger.campaigns import lifecycle
from sendledger.core.tables import audit_log, campaign_steps, emails, scheduled_emails
from sendledger.ledger import claim_emails
from sendledger.sending.tick import Resources, send_due_emails
from testbed.campaigns import DAY, NO_DELAY, make_campaign, make_template, pass_time, rows_of, statuses
from testbed.invariants import let_it_settle
from testbed.senders import sender_resources
from tests.functions.campaign_api.api_client import ApiClient


@pytest.fixture
def template(connection: sa.Connection) -> str:
    created = str(make_template(connection, subject="Hello", body_text="Old words"))
    connection.commit()
    return created


@pytest.fixture
def campaign(engine: sa.Engine, connection: sa.Connection, template: str) -> str:
    """Running, with two emails."""
    campaign_id = make_campaign(connection, 2, email_template_id=template)
    lifecycle.start_campaign(engine, campaign_id)
    return str(campaign_id)


@pytest.fixture
def resources(sender_engine: sa.Engine, ses: SesSimulator) -> Resources:
    return sender_resources(sender_engine, ses.url)


def refreshed(api: ApiClient, campaign: str) -> Any:
    return api.request("POST", f"/v1/campaigns/{campaign}/resume", query={"refresh_content": "true"})


def change(api: ApiClient, template: str, **content: str) -> None:
    assert api.patch(f"/v1/email-templates/{template}", content).status == 200


def texts(engine: sa.Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.scalars(sa.select(emails.c.body_text).order_by(emails.c.created_at, emails.c.id)))


def test_campaign_that_paused_for_invalid_content_is_repaired(
    api: ApiClient, engine: sa.Engine, connection: sa.Connection, campaign: str, template: str, resources: Resources
) -> None:
    connection.execute(sa.update(campaign_steps).values(body_text="Hi {{ company_name.upper() }}"))
    connection.commit()
    send_due_emails(resources, 60.0)
    assert api.get(f"/v1/campaigns/{campaign}").json["status"] == "paused"
    change(api, template, body_text="New words")
    answer = refreshed(api, campaign)
    assert (answer.status, answer.json["status"], answer.json["refreshed_steps"]) == (200, "running", [1])
    let_it_settle(engine, resources)
    assert texts(engine) == ["New words", "New words"]


def test_resume_without_the_parameter_keeps_the_content(
    api: ApiClient, engine: sa.Engine, campaign: str, template: str, resources: Resources
) -> None:
    api.post(f"/v1/campaigns/{campaign}/pause")
    change(api, template, body_text="New words")
    assert api.post(f"/v1/campaigns/{campaign}/resume").json["refreshed_steps"] == []
    let_it_settle(engine, resources)
    assert texts(engine) == ["Old words", "Old words"]


def test_emails_that_were_sent_keep_their_content_and_the_later_steps_get_the_new_one(
    api: ApiClient, engine: sa.Engine, connection: sa.Connection, resources: Resources
) -> None:
    campaign = str(make_campaign(connection, 1, [NO_DELAY, DAY]))
    lifecycle.start_campaign(engine, uuid.UUID(campaign))
    send_due_emails(resources, 60.0)
    (sent,) = texts(engine)
    api.post(f"/v1/campaigns/{campaign}/pause")
    for each in connection.scalars(sa.select(campaign_steps.c.email_template_id)):
        change(api, str(each), body_text="New words")
    assert refreshed(api, campaign).json["refreshed_steps"] == [1, 2]
    pass_time(engine, DAY)
    # The same process, which has sent the old content.
    assert send_due_emails(resources, 60.0).sent == 1
    assert texts(engine) == [sent, "New words"]
    delays = sa.select(campaign_steps.c.delay).order_by(campaign_steps.c.step_number)
    assert list(connection.scalars(delays)) == [NO_DELAY, DAY]


def test_new_content_is_checked_for_every_unsent_email_and_refused_as_before_a_start(
    api: ApiClient, engine: sa.Engine, campaign: str, template: str
) -> None:
    api.post(f"/v1/campaigns/{campaign}/pause")
    change(api, template, body_text="Hi {{ custom_fields.nickname }}")
    answer = refreshed(api, campaign)
    assert (answer.status, answer.json["type"]) == (422, "urn:sendledger:problem:not_ready")
    (error,) = answer.json["preflight_errors"]
    assert (error["check"], error["detail"]["step_number"], error["detail"]["count"]) == ("templates", 1, 2)
    assert api.get(f"/v1/campaigns/{campaign}").json["status"] == "paused"
    assert statuses(engine, uuid.UUID(campaign)) == {"cancelled": 2}


def test_workflow_with_another_number_of_steps_is_refused(
    api: ApiClient, engine: sa.Engine, connection: sa.Connection
) -> None:
    campaign = str(make_campaign(connection, 1, [NO_DELAY, DAY]))
    lifecycle.start_campaign(engine, uuid.UUID(campaign))
    api.post(f"/v1/campaigns/{campaign}/pause")
    connection.execute(sa.text("DELETE FROM workflow_steps WHERE step_number = 2"))
    connection.commit()
    answer = refreshed(api, campaign)
    assert answer.status == 422
    assert "it has 1 steps and the campaign was started with 2" in str(answer.json["errors"])
    assert api.get(f"/v1/campaigns/{campaign}").json["status"] == "paused"


def test_content_is_not_lost_for_emails_whose_outcome_is_unknown(
    api: ApiClient, engine: sa.Engine, connection: sa.Connection, campaign: str, template: str
) -> None:
    row = rows_of(engine, uuid.UUID(campaign))[0]
    connection.execute(
        sa.update(scheduled_emails)
        .where(scheduled_emails.c.id == row["id"])
        .values(status="failed", error_code="outcome_unknown", failed_at=sa.func.now(), claim_token=uuid.uuid4())
    )
    connection.commit()
    api.post(f"/v1/campaigns/{campaign}/pause")
    answer = refreshed(api, campaign)
    assert (answer.status, answer.json["current_status"]) == (409, "paused")
    assert "1 emails of this campaign are on their way or of unknown outcome" in answer.json["detail"]
    assert api.post(f"/v1/scheduled-emails/{row['id']}/requeue").status == 200
    assert refreshed(api, campaign).status == 200


def test_refresh_is_in_the_audit_log(api: ApiClient, connection: sa.Connection, campaign: str, template: str) -> None:
    api.post(f"/v1/campaigns/{campaign}/pause")
    change(api, template, subject="Hello again")
    refreshed(api, campaign)
    entry = connection.execute(sa.select(audit_log).where(audit_log.c.action == "campaign.resume")).mappings().one()
    assert entry["detail"] == {"refreshed_steps": [1]}


def test_email_claimed_before_the_resume_does_not_go_out_with_the_old_content(
    api: ApiClient, engine: sa.Engine, campaign: str, template: str
) -> None:
    token = uuid.uuid4()
    with engine.begin() as connection:
        claimed = claim_emails.claim(connection, 10, token)
    api.post(f"/v1/campaigns/{campaign}/pause")
    assert refreshed(api, campaign).status == 200
    with engine.begin() as connection:
        assert claim_emails.fence(connection, claimed, token).sendable == {}
    assert statuses(engine, uuid.UUID(campaign)) == {"pending": 2}


def test_clock_that_was_set_back_after_a_resume_stops_nothing(
    engine: sa.Engine, connection: sa.Connection, campaign: str, resources: Resources
) -> None:
    connection.execute(sa.text("UPDATE campaigns SET resumed_at = now() + interval '1 hour'"))
    connection.commit()
    assert send_due_emails(resources, 60.0).sent == 2
