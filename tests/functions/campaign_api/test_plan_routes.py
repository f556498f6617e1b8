"""The plan of a campaign through the API."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

import api_resources
from local.ses_simulator import SesSimulator
from testbed.campaigns import make_campaign
from tests.functions.campaign_api.api_client import ApiClient


@pytest.fixture(autouse=True)
def _account(api: ApiClient, ses: SesSimulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", ses.url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    api_resources.ses_client.cache_clear()
    yield
    api_resources.ses_client.cache_clear()


def test_the_plan_of_a_draft_says_what_goes_on_which_day(api: ApiClient, connection: sa.Connection) -> None:
    sender = api.post("/v1/senders", {"from_address": "ann@example.com", "daily_cap": 2}).json
    campaign_id = make_campaign(connection, 3, sender_ids=[sender["id"]])
    found = api.get(f"/v1/campaigns/{campaign_id}/plan")
    assert (found.status, found.json["status"], found.json["reason"]) == (200, "draft", None)
    first, second = found.json["days"]
    assert first["by_step_and_sender"] == [{"step_number": 1, "sender_id": sender["id"], "emails": 2}]
    assert (first["emails"], first["bottleneck"]) == (2, "sender_cap")
    assert (second["emails"], second["bottleneck"]) == (1, None)
    assert found.json["finishes_at"].startswith(second["date"])


def test_a_plan_without_word_from_ses_has_no_end(
    api: ApiClient, connection: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    found = api.get(f"/v1/campaigns/{make_campaign(connection, 3)}/plan").json
    assert (found["days"], found["finishes_at"], found["reason"]) == ([], None, "ses_unknown")


def test_the_plan_of_a_draft_whose_content_cannot_be_sent_is_refused_by_field(
    api: ApiClient, connection: sa.Connection
) -> None:
    campaign_id = make_campaign(connection, 1, email_template_id=uuid.uuid4())
    refused = api.get(f"/v1/campaigns/{campaign_id}/plan")
    assert (refused.status, refused.fields) == (422, ["email_template_id"])
