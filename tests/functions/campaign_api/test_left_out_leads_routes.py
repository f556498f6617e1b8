"""The list of leads that a start left out, page by page and by reason."""

from __future__ import annotations

import uuid
from typing import Any, get_args

import pytest
import sqlalchemy as sa

from campaigns_routes import LeftOutReason
from sendledger.campaigns import lifecycle
from sendledger.core.vocabulary import LEFT_OUT_REASONS
from testbed.campaigns import make_campaign
from tests.functions.campaign_api.api_client import ApiClient

EVERYONE = ["ann@acme.com", *(f"bob{number} at acme" for number in range(3)), None, "ANN@acme.com", "eve@gone.com"]


@pytest.fixture
def campaign(engine: sa.Engine, connection: sa.Connection) -> str:
    connection.execute(sa.text("INSERT INTO suppressions (value, reason) VALUES ('gone.com', 'manual')"))
    campaign_id = make_campaign(connection, EVERYONE)
    lifecycle.start_campaign(engine, campaign_id)
    return f"/v1/campaigns/{campaign_id}"


def pages(api: ApiClient, path: str, **query: object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        page = api.get(path, limit=2, **query)
        assert page.status == 200, page.body
        found += page.json["items"]
        if page.json["next_cursor"] is None:
            return found
        query["cursor"] = page.json["next_cursor"]


def test_each_left_out_lead_is_listed_once_with_its_reason(api: ApiClient, campaign: str) -> None:
    found = pages(api, f"{campaign}/left-out-leads")
    assert sorted((item["reason"], str(item["email"]).lower()) for item in found) == [
        ("duplicate_address", "ann@acme.com"),
        ("invalid_address", "bob0 at acme"),
        ("invalid_address", "bob1 at acme"),
        ("invalid_address", "bob2 at acme"),
        ("no_address", "none"),
        ("suppressed", "eve@gone.com"),
    ]
    assert len({item["lead_id"] for item in found}) == 6


def test_list_agrees_with_the_counts_of_the_campaign(api: ApiClient, campaign: str) -> None:
    for reason, count in api.get(campaign).json["leads_left_out"].items():
        found = pages(api, f"{campaign}/left-out-leads", reason=reason)
        assert ({item["reason"] for item in found}, len(found)) == ({reason}, count)


def test_every_reason_of_the_vocabulary_can_be_asked_for() -> None:
    assert set(get_args(LeftOutReason)) == set(LEFT_OUT_REASONS)


def test_reason_without_leads_is_an_empty_page(api: ApiClient, campaign: str) -> None:
    assert api.get(f"{campaign}/left-out-leads", reason="lead_converted").json == {"items": [], "next_cursor": None}


def test_deleted_lead_leaves_its_reason(api: ApiClient, campaign: str) -> None:
    (left_out,) = pages(api, f"{campaign}/left-out-leads", reason="suppressed")
    assert api.delete(f"/v1/leads/{left_out['lead_id']}").status == 204
    (after,) = pages(api, f"{campaign}/left-out-leads", reason="suppressed")
    assert after == dict.fromkeys(after) | {"reason": "suppressed"}


def test_unknown_reason_is_refused_naming_those_there_are(api: ApiClient, campaign: str) -> None:
    answer = api.get(f"{campaign}/left-out-leads", reason="bored")
    assert (answer.status, answer.fields) == (422, ["reason"])
    assert "duplicate_address" in answer.json["errors"][0]["message"]


def test_cursor_of_another_list_is_refused(api: ApiClient, campaign: str) -> None:
    for number in range(2):
        api.post("/v1/email-templates", {"name": f"t{number}", "subject": "Hi", "body_text": "Hello"})
    cursor = api.get("/v1/email-templates", limit=1).json["next_cursor"]
    answer = api.get(f"{campaign}/left-out-leads", cursor=cursor)
    assert (answer.status, answer.fields) == (422, ["cursor"])


def test_unknown_campaign_is_not_found(api: ApiClient) -> None:
    assert api.get(f"/v1/campaigns/{uuid.uuid4()}/left-out-leads").status == 404
