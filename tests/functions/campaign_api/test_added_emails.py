"""Adding one email to a running campaign."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
import sqlalchemy as sa

from sendledger.campaigns import lifecycle
from testbed.campaigns import campaign_row, make_batch, make_campaign
from tests.functions.campaign_api.api_client import ApiClient


@pytest.fixture
def running(engine: sa.Engine, connection: sa.Connection) -> uuid.UUID:
    campaign_id = make_campaign(connection, 1)
    lifecycle.start_campaign(engine, campaign_id)
    return campaign_id


@pytest.fixture
def email(engine: sa.Engine, connection: sa.Connection, running: uuid.UUID) -> dict[str, Any]:
    """To a lead that the campaign does not know."""
    make_batch(connection, ["new@example.com"])
    lead = connection.scalar(sa.text("SELECT id FROM leads WHERE email = 'new@example.com'"))
    connection.commit()
    return {"lead_id": str(lead), "email_template_id": str(campaign_row(engine, running)["email_template_id"])}


def test_added_email_is_scheduled_counted_and_audited(
    api: ApiClient, engine: sa.Engine, running: uuid.UUID, email: dict[str, Any]
) -> None:
    added = api.post(f"/v1/campaigns/{running}/scheduled-emails", {**email, "delay_minutes": 60})
    assert (added.status, added.json["status"], added.json["lead_id"]) == (201, "pending", email["lead_id"])
    campaign = campaign_row(engine, running)
    assert (campaign["emails_scheduled_count"], campaign["total_leads_targeted"]) == (2, 2)
    last = api.get("/v1/audit-log", sort="-id", limit=1).json["items"][0]
    assert (last["action"], last["entity_id"]) == ("scheduled_email.create", str(added.json["id"]))


def test_lead_that_has_the_step_already_gets_it_once(api: ApiClient, running: uuid.UUID, email: dict[str, Any]) -> None:
    path = f"/v1/campaigns/{running}/scheduled-emails"
    assert [api.post(path, email).status for _ in "12"] == [201, 409]


def test_second_lead_with_the_same_address_is_refused(
    api: ApiClient, connection: sa.Connection, running: uuid.UUID, email: dict[str, Any]
) -> None:
    first = connection.execute(sa.text("SELECT id, email FROM leads WHERE email <> 'new@example.com'")).one()
    connection.execute(
        sa.text("UPDATE leads SET email = upper(:email) WHERE id = :id").bindparams(
            email=first.email, id=uuid.UUID(email["lead_id"])
        )
    )
    connection.commit()
    refused = api.post(f"/v1/campaigns/{running}/scheduled-emails", email)
    assert (refused.status, refused.json["lead_id"]) == (409, str(first.id))


@pytest.mark.parametrize("field", ["lead_id", "email_template_id"])
def test_unknown_lead_or_template_is_refused_by_field(
    api: ApiClient, running: uuid.UUID, email: dict[str, Any], field: str
) -> None:
    answer = api.post(f"/v1/campaigns/{running}/scheduled-emails", email | {field: str(uuid.uuid4())})
    assert (answer.status, answer.fields) == (422, [field])


def test_email_is_not_added_to_a_draft(api: ApiClient, connection: sa.Connection, email: dict[str, Any]) -> None:
    answer = api.post(f"/v1/campaigns/{make_campaign(connection, 1)}/scheduled-emails", email)
    assert (answer.status, answer.json["current_status"]) == (409, "draft")
