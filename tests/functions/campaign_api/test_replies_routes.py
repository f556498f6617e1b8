"""Replies by the API."""

from __future__ import annotations

import base64
import uuid

import pytest
import sqlalchemy as sa

from testbed.campaigns import make_campaign
from tests.functions.campaign_api.api_client import ApiClient

RAW = base64.b64encode(b"From: Ann <ann@example.com>\nMessage-ID: <1@x>\nSubject: Re: Hi\n\nYes!").decode()


@pytest.fixture
def lead_id(connection: sa.Connection) -> str:
    """A lead that got an email."""
    campaign_id = make_campaign(connection, ["ann@example.com"])
    found = connection.scalar(sa.text("SELECT id FROM leads"))
    connection.execute(
        sa.text("""
            INSERT INTO emails (lead_id, campaign_id, subject, body_text, sent_at, external_id)
            VALUES (:lead_id, :campaign_id, 'Hi', 'Hi', timezone('UTC', now()), '0100-1')
        """).bindparams(lead_id=found, campaign_id=campaign_id)
    )
    connection.commit()
    return str(found)


def test_a_raw_message_is_received_once(api: ApiClient, lead_id: str) -> None:
    first, again = (api.post("/v1/replies", {"raw": RAW}) for _ in range(2))
    assert first.status == again.status == 200
    assert first.json == again.json
    reply = first.json
    assert (reply["lead_id"], reply["matched_by"], reply["automatic"]) == (lead_id, "address", None)
    assert (reply["message_id"], reply["body_text"], reply["source"]) == ("<1@x>", "Yes!", "api")
    assert api.get(f"/v1/leads/{lead_id}").json["status"] == "responded"


def test_a_message_in_parts_is_received(api: ApiClient, lead_id: str) -> None:
    answer = api.post(
        "/v1/replies",
        {
            "from_address": "Somebody <else@example.com>",
            "subject": "Automatic reply: Hi",
            "text": "Away",
            "in_reply_to": "<0100-1@email.amazonses.com>",
            "headers": {"Auto-Submitted": "auto-replied"},
        },
    )
    assert (answer.status, answer.json["matched_by"], answer.json["automatic"]) == (200, "message_id", "auto_submitted")
    assert api.get(f"/v1/leads/{lead_id}").json["status"] == "new"


def test_replies_are_listed_by_lead_and_by_campaign(api: ApiClient, lead_id: str) -> None:
    ids = [api.post("/v1/replies", {"from_address": "ann@example.com", "text": text}).json["id"] for text in "abc"]
    api.post("/v1/replies", {"from_address": "stranger@example.com"})
    first = api.get("/v1/replies", lead_id=lead_id, limit=2).json
    second = api.get("/v1/replies", lead_id=lead_id, limit=2, cursor=first["next_cursor"]).json
    assert [item["id"] for item in first["items"] + second["items"]] == ids[::-1]
    assert len(api.get("/v1/replies", campaign_id=first["items"][0]["campaign_id"]).json["items"]) == 3
    assert api.get("/v1/replies", campaign_id=str(uuid.uuid4())).json["items"] == []
    assert len(api.get("/v1/replies").json["items"]) == 4


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"raw": "not base64!"},
        {"raw": RAW, "from_address": "ann@example.com"},
        {"raw": RAW, "subject": "Hi"},
        {"subject": "Hi"},
        {"from_address": "nobody"},
        {"from_address": "a@example.com", "in_reply_to": "no brackets"},
        {"from_address": "a@example.com", "headers": {"A": 1}},
        {"raw": "A" * 1_000_001},
    ],
)
def test_invalid_reply_is_refused(api: ApiClient, body: dict[str, object]) -> None:
    assert api.post("/v1/replies", body).status == 422


def test_only_senders_may_tell_of_replies(clients: dict[str, ApiClient]) -> None:
    assert clients["editor"].post("/v1/replies", {"raw": RAW}).status == 403
    assert clients["viewer"].get("/v1/replies").status == 200
