"""A draft like another campaign: what it takes over, and what it does not."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import pytest
import sqlalchemy as sa

from campaign_fields import NewCampaign
from sendledger.campaigns.duplicates import COPIED
from sendledger.core.tables import campaigns
from testbed.campaigns import DAY, NO_DELAY, campaign_row, make_batch, make_campaign, make_template
from tests.functions.campaign_api.api_client import ApiClient

FAR = dt.datetime(2090, 1, 1, tzinfo=dt.UTC)
LEADS = {"batch_ids", "segment_ids", "lead_ids"}
CHOSEN = {"name", "campaign_type", "email_template_id", "start_type", "scheduled_start_at", "next_run_at", "end_at"}
"""These are taken over with conditions."""


def filled(column: sa.Column[Any]) -> object:
    """A value that no new draft has in this column."""
    kind = column.type
    if isinstance(kind, sa.Boolean):
        return str(getattr(column.server_default, "arg", "false")) != "true"
    if isinstance(kind, sa.Integer):
        return 77
    if isinstance(kind, sa.ARRAY):
        return [uuid.uuid4()] if isinstance(kind.item_type, sa.UUID) else ["x"]
    if isinstance(kind, sa.UUID):
        return uuid.uuid4()
    if isinstance(kind, sa.dialects.postgresql.JSONB) and column.name == "intake":
        return {"every": "1 day"}
    if isinstance(kind, sa.dialects.postgresql.JSONB):
        return [{"kind": "cancel"}] if column.name == "background_work" else {"enabled": False}
    return "daily" if isinstance(kind, sa.Enum) else "x" if isinstance(kind, sa.String) else FAR


KEPT_BY_A_CHECK = {"id", "status", "campaign_type", "start_type", "workflow_id", "sending_schedule_id"}


def test_duplicate_has_every_setting_and_no_result(
    api: ApiClient, engine: sa.Engine, connection: sa.Connection
) -> None:
    campaign_id = make_campaign(connection, 2, [NO_DELAY, DAY])
    values = {column.name: filled(column) for column in campaigns.c if column.name not in KEPT_BY_A_CHECK}
    template = make_template(connection)
    changed = sa.update(campaigns).where(campaigns.c.id == campaign_id)
    connection.execute(changed.values(values | {"status": "cancelled", "email_template_id": template}))
    connection.commit()
    created = api.post(f"/v1/campaigns/{campaign_id}/duplicate", {})
    assert created.status == 201
    origin, copy = campaign_row(engine, campaign_id), campaign_row(engine, created.json["id"])
    batch_id = make_batch(connection, ["new@example.com"])
    connection.commit()
    plain = {"name": "n", "email_template_id": str(template), "batch_ids": [str(batch_id)]}
    fresh = campaign_row(engine, api.post("/v1/campaigns", plain).json["id"])
    settings = NewCampaign.model_fields.keys() - LEADS
    # Those that have handed over their leads stay behind.
    assert settings - CHOSEN - {"sender_ids"} <= set(COPIED)
    assert copy["sender_ids"] == [each for each in origin["sender_ids"] if each not in origin["former_sender_ids"]]
    assert [name for name in settings - CHOSEN - {"sender_ids"} if copy[name] != origin[name]] == []
    own = {"id", "created_at", "updated_at", "batch_ids", "segment_ids", "use_workflow", "sender_ids", *CHOSEN, *COPIED}
    assert [name for name in campaigns.c.keys() if name not in own and copy[name] != fresh[name]] == []  # noqa: SIM118
    assert copy["segment_ids"] == []
    assert (copy["batch_ids"], copy["use_workflow"], copy["status"]) == ([], True, "draft")
    assert (copy["next_run_at"], copy["email_template_id"]) == (FAR, template)


def test_duplicate_may_be_named_and_is_a_copy_otherwise(api: ApiClient, connection: sa.Connection) -> None:
    path = f"/v1/campaigns/{make_campaign(connection, 1, name='x' * 255)}/duplicate"
    assert api.post(path, {"name": "Autumn"}).json["name"] == "Autumn"
    name = api.post(path, {}).json["name"]
    assert (name[:9], len(name)) == ("Copy of x", 255)
    assert api.post(path, {"name": " "}).fields == ["name"]


def test_duplicate_starts_once_it_has_leads(api: ApiClient, connection: sa.Connection) -> None:
    created = api.post(f"/v1/campaigns/{make_campaign(connection, 1)}/duplicate", {}).json
    path = f"/v1/campaigns/{created['id']}"
    refused = api.post(f"{path}/start")
    assert (refused.status, refused.fields) == (422, ["batch_ids", "segment_ids", "lead_ids"])
    assert api.patch(path, {"from_address": "ann@example.com"}).status == 200
    batch_id = make_batch(connection, ["a@example.com"])
    connection.commit()
    assert api.patch(path, {"batch_ids": [str(batch_id)], "from_address": None}).status == 200
    assert api.post(f"{path}/start").json["emails_scheduled_count"] == 1


@pytest.mark.parametrize(("at", "start_type"), [(FAR, "scheduled"), (FAR.replace(year=2020), "manual")])
def test_start_that_is_over_is_not_taken_over(
    api: ApiClient, connection: sa.Connection, at: dt.datetime, start_type: str
) -> None:
    campaign_id = make_campaign(connection, 1, start_type="scheduled", scheduled_start_at=at)
    created = api.post(f"/v1/campaigns/{campaign_id}/duplicate", {}).json
    assert created["start_type"] == start_type
    assert (created["scheduled_start_at"] is None) == (start_type == "manual")


def test_duplicate_has_no_template_that_was_deleted(api: ApiClient, connection: sa.Connection) -> None:
    campaign_id = make_campaign(connection, 1, status="cancelled", email_template_id=uuid.uuid4())
    created = api.post(f"/v1/campaigns/{campaign_id}/duplicate", {})
    assert (created.status, created.json["email_template_id"]) == (201, None)


def test_duplicate_says_in_the_audit_log_of_what(api: ApiClient, connection: sa.Connection) -> None:
    campaign_id = make_campaign(connection, 1, campaign_type="automated", status="cancelled")
    created = api.post(f"/v1/campaigns/{campaign_id}/duplicate", {}).json
    assert created["campaign_type"] == "outreach"
    (entry,) = api.get("/v1/audit-log", entity_id=created["id"]).json["items"]
    assert (entry["action"], entry["detail"]) == ("campaign.create", {"duplicate_of": str(campaign_id)})
