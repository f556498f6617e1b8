"""Senders through the API."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

import api_resources
from local.ses_simulator import SesSimulator
from sendledger.campaigns import lifecycle
from testbed.campaigns import make_batch, make_campaign, make_template, statuses
from tests.functions.campaign_api.api_client import ApiClient

SENDER: dict[str, Any] = {"from_address": "Ann <Ann@Example.com>", "daily_cap": 50}
UNKNOWN = "123e4567-e89b-12d3-a456-426614174000"


@pytest.fixture
def sender(api: ApiClient) -> dict[str, Any]:
    created: dict[str, Any] = api.post("/v1/senders", SENDER).json
    return created


def test_created_sender_is_shown_as_it_was_given(api: ApiClient, sender: dict[str, Any]) -> None:
    assert sender.items() >= {**SENDER, "reply_to_address": None, "status": "active"}.items()
    assert api.get(f"/v1/senders/{sender['id']}").json == sender
    assert api.get("/v1/senders").json["items"] == [sender]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"from_address": "nobody"}, "from_address"),
        ({"from_address": "Ann\n<ann@example.com>"}, "from_address"),
        ({"reply_to_address": "nobody"}, "reply_to_address"),
        ({"daily_cap": 0}, "daily_cap"),
        ({"daily_cap": 2**31}, "daily_cap"),
        ({"daily_cap": "50"}, "daily_cap"),
        ({"status": "paused"}, "status"),
        ({"ramp": {"start": 5}}, "ramp"),
        ({"ramp": {"start": 5, "step": 0, "ceiling": 50}}, "ramp"),
        ({"ramp": {"start": 5, "step": 1, "ceiling": 4}}, "ramp"),
        ({"ramp": {"start": "5", "step": 1, "ceiling": 9}}, "ramp"),
        ({"ramp": {"start": 5, "step": 1, "ceiling": 9, "days": 3}}, "ramp"),
        ({"ramp": 5}, "ramp"),
        ({"spread": "yes"}, "spread"),
    ],
    ids=str,
)
def test_wrong_sender_is_refused_by_field(
    api: ApiClient, sender: dict[str, Any], change: dict[str, Any], field: str
) -> None:
    new = {"from_address": "bob@example.com"} | change
    for answer in (api.post("/v1/senders", new), api.patch(f"/v1/senders/{sender['id']}", change)):
        assert answer.status == 422
        assert {name.split(".")[0] for name in answer.fields} == {field}, answer.body


def test_what_a_sender_may_send_today_is_shown(api: ApiClient) -> None:
    ramp = {"start": 10, "step": 5, "ceiling": 50}
    new = {"from_address": "bob@example.com", "daily_cap": 40, "ramp": ramp}
    shown = api.post("/v1/senders", new).json
    assert shown.items() >= {**new, "spread": True, "cap_today": 10, "sent_today": 0}.items()
    assert api.patch(f"/v1/senders/{shown['id']}", {"ramp": None}).json["cap_today"] == 40
    assert api.patch(f"/v1/senders/{shown['id']}", {"daily_cap": None}).json["cap_today"] is None


def test_reassigned_leads_are_counted_and_logged(api: ApiClient, engine: sa.Engine, sender: dict[str, Any]) -> None:
    bob = api.post("/v1/senders", {"from_address": "bob@example.com"}).json["id"]
    with engine.connect() as connection:
        campaign_id = make_campaign(connection, 3, sender_ids=[uuid.UUID(sender["id"])])
    lifecycle.start_campaign(engine, campaign_id)
    counts = {"campaigns": 1, "leads_moved": 3, "emails_moved": 3, "leads_kept": 0, "leads_left": 0}
    answer = api.post(f"/v1/senders/{sender['id']}/reassign", {"to": bob})
    assert (answer.status, answer.json) == (200, counts)
    logged = api.get("/v1/audit-log").json["items"]
    assert {"to": bob, **counts} in [each["detail"] for each in logged if each["action"] == "sender_address.reassign"]


def test_leads_are_reassigned_to_another_active_sender_only(api: ApiClient, sender: dict[str, Any]) -> None:
    disabled = api.post("/v1/senders", {"from_address": "bob@example.com", "status": "disabled"}).json["id"]
    for to in (UNKNOWN, sender["id"], disabled, "bob", None):
        answer = api.post(f"/v1/senders/{sender['id']}/reassign", {"to": to})
        assert (answer.status, list(answer.fields)) == (422, ["to"]), answer.body
    assert api.post(f"/v1/senders/{UNKNOWN}/reassign", {"to": sender["id"]}).status == 404


@pytest.fixture
def asked_ses(api: ApiClient, ses: SesSimulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[SesSimulator]:
    """The SES that the API asks."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", ses.url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("SES_CONFIGURATION_SET", "sendledger")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    caches = (api_resources.ses_client, api_resources.settings)
    for cached in caches:
        cached.cache_clear()
    yield ses
    for cached in caches:
        cached.cache_clear()


def test_leads_are_not_reassigned_to_a_sender_that_ses_has_not_verified(
    api: ApiClient, asked_ses: SesSimulator, sender: dict[str, Any]
) -> None:
    bob = api.post("/v1/senders", {"from_address": "bob@example.com"}).json["id"]
    asked_ses.account.identities["bob@example.com"] = {"VerifiedForSendingStatus": False}
    answer = api.post(f"/v1/senders/{sender['id']}/reassign", {"to": bob})
    assert (answer.status, list(answer.fields)) == (422, ["to"]), answer.body
    asked_ses.account.identities["bob@example.com"] = {"VerifiedForSendingStatus": True}
    assert api.post(f"/v1/senders/{sender['id']}/reassign", {"to": bob}).status == 200


def test_sender_of_a_campaign_under_way_keeps_an_address_that_ses_has_verified(
    api: ApiClient, engine: sa.Engine, asked_ses: SesSimulator, sender: dict[str, Any]
) -> None:
    path = f"/v1/senders/{sender['id']}"
    asked_ses.account.identities["bob@example.com"] = {"VerifiedForSendingStatus": False}
    with engine.connect() as connection:
        campaign_id = make_campaign(connection, 2, sender_ids=[uuid.UUID(sender["id"])])
    # A draft is looked at when it starts.
    for address in ("bob@example.com", "ann@example.com"):
        assert api.patch(path, {"from_address": address}).status == 200
    lifecycle.start_campaign(engine, campaign_id)
    answer = api.patch(path, {"from_address": "Bob <bob@example.com>"})
    assert (answer.status, answer.fields) == (422, ["from_address"]), answer.body
    asked_ses.account.identities["ann@example.com"] = {"VerifiedForSendingStatus": False}
    assert api.patch(path, {"from_address": "Ann of Acme <Ann@example.com>"}).status == 200
    asked_ses.account.identities["bob@example.com"] = {"VerifiedForSendingStatus": True}
    assert api.patch(path, {"from_address": "Bob <bob@example.com>"}).status == 200


def test_campaign_does_not_start_with_a_sender_that_ses_has_not_verified(
    api: ApiClient, engine: sa.Engine, asked_ses: SesSimulator, sender: dict[str, Any]
) -> None:
    bob = api.post("/v1/senders", {"from_address": "bob@example.com"}).json["id"]
    with engine.connect() as connection:
        campaign_id = make_campaign(connection, 2, sender_ids=[uuid.UUID(sender["id"]), uuid.UUID(bob)])
    path = f"/v1/campaigns/{campaign_id}"
    asked_ses.account.identities["bob@example.com"] = {"VerifiedForSendingStatus": False}
    answer = api.post(f"{path}/start")
    assert (answer.status, answer.json["type"]) == (422, "urn:sendledger:problem:not_ready"), answer.body
    (error,) = answer.json["preflight_errors"]
    assert (error["check"], "bob@example.com is not verified" in error["message"]) == ("identity", True)
    assert (api.get(path).json["status"], statuses(engine, campaign_id)) == ("draft", {})
    asked_ses.account.identities["bob@example.com"] = {"VerifiedForSendingStatus": True}
    assert api.post(f"{path}/start").json["status"] == "running"


def test_scheduled_campaign_gets_no_sender_that_ses_has_not_verified(
    api: ApiClient, connection: sa.Connection, asked_ses: SesSimulator, sender: dict[str, Any]
) -> None:
    bob = api.post("/v1/senders", {"from_address": "bob@example.com"}).json["id"]
    asked_ses.account.identities["bob@example.com"] = {"VerifiedForSendingStatus": False}
    time: dict[str, Any] = {
        "start_type": "scheduled",
        "scheduled_start_at": sa.func.now() + sa.text("interval '1 day'"),
    }
    scheduled, draft = (make_campaign(connection, 1, status=status, **time) for status in ("scheduled", "draft"))
    path = f"/v1/campaigns/{scheduled}"
    before = api.get(path).json
    for change in ({"sender_ids": [sender["id"], bob]}, {"from_address": "bob@example.com"}):
        refused = api.patch(path, change)
        assert (refused.status, refused.fields) == (422, [next(iter(change))]), refused.body
        assert "bob@example.com is not verified" in refused.json["errors"][0]["message"]
        assert api.get(path).json == before
        # A draft is looked at when it starts.
        assert api.patch(f"/v1/campaigns/{draft}", {"sender_ids": [], "from_address": None, **change}).status == 200
    asked_ses.account.identities["bob@example.com"] = {"VerifiedForSendingStatus": True}
    assert api.patch(path, {"sender_ids": [sender["id"], bob]}).status == 200


def test_second_sender_with_the_same_mailbox_is_refused(api: ApiClient, sender: dict[str, Any]) -> None:
    again = api.post("/v1/senders", {"from_address": "Other <ANN@example.com>"})
    assert (again.status, "ANN@example.com" in again.json["detail"]) == (409, True)
    other = api.post("/v1/senders", {"from_address": "bob@example.com"}).json
    assert api.patch(f"/v1/senders/{other['id']}", {"from_address": "ann@example.com"}).status == 409


def test_change_is_logged_from_what_to_what(api: ApiClient, sender: dict[str, Any]) -> None:
    changed = api.patch(f"/v1/senders/{sender['id']}", {"daily_cap": None}).json
    assert changed == sender | {"daily_cap": None, "cap_today": None, "updated_at": changed["updated_at"]}
    detail = api.get("/v1/audit-log", sort="-id", limit=1).json["items"][0]["detail"]
    assert detail == {"fields": ["daily_cap"], "before": {"daily_cap": 50}, "after": {"daily_cap": None}}


def test_unknown_sender_is_not_found(api: ApiClient) -> None:
    path = f"/v1/senders/{UNKNOWN}"
    assert [api.get(path).status, api.patch(path, {"daily_cap": 1}).status, api.delete(path).status] == [404, 404, 404]


def test_sender_in_use_is_not_deleted_and_its_campaigns_are_named(
    api: ApiClient, connection: sa.Connection, sender: dict[str, Any]
) -> None:
    campaign_id = make_campaign(connection, 1, sender_ids=[uuid.UUID(sender["id"])], name="Spring")
    answer = api.delete(f"/v1/senders/{sender['id']}")
    assert (answer.status, answer.json["campaigns"]) == (409, [{"id": str(campaign_id), "name": "Spring"}])
    assert api.patch(f"/v1/campaigns/{campaign_id}", {"sender_ids": []}).status == 200
    assert api.delete(f"/v1/senders/{sender['id']}").status == 204


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"sender_ids": [UNKNOWN]}, "sender_ids.0"),
        ({"sender_ids": ["SENDER", "SENDER"]}, "sender_ids"),
        ({"sender_ids": ["SENDER"], "from_address": "bob@example.com"}, "from_address"),
    ],
    ids=["unknown", "twice", "with an address of its own"],
)
def test_campaign_with_wrong_senders_is_refused_by_field(
    api: ApiClient, connection: sa.Connection, sender: dict[str, Any], given: dict[str, Any], field: str
) -> None:
    batch_id, template_id = make_batch(connection, ["ann@example.com"]), make_template(connection)
    connection.commit()
    given["sender_ids"] = [sender["id"] if each == "SENDER" else each for each in given["sender_ids"]]
    campaign = {"name": "c", "batch_ids": [str(batch_id)], "email_template_id": str(template_id), **given}
    answer = api.post("/v1/campaigns", campaign)
    assert (answer.status, field in answer.fields) == (422, True), answer.body
