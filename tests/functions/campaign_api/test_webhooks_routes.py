"""Webhook endpoints through the API: who is told what, secrets that are shown once, and what became of events."""

from __future__ import annotations

import base64
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from sendledger.core.tables import webhook_endpoints
from sendledger.webhooks.exchange import exchange
from tests.functions.campaign_api.api_client import ApiClient

NEW = {"url": "https://example.com/hooks", "event_types": ["campaign.completed", "lead.replied"]}
PATH = "/v1/webhook-endpoints"


def create(api: ApiClient, **values: Any) -> Any:
    created = api.post(PATH, {**NEW, **values})
    assert created.status == 201, created.json
    return created.json


def test_secret_is_shown_once(api: ApiClient) -> None:
    created = create(api)
    assert len(base64.b64decode(created["secret"].removeprefix("whsec_"))) == 32
    for answer in (api.get(f"{PATH}/{created['id']}"), api.get(PATH), api.patch(f"{PATH}/{created['id']}", {})):
        assert answer.status == 200
        assert created["secret"] not in (answer.body or "")
        assert "whsec_" not in (answer.body or "")


def test_repeated_request_gets_the_endpoint_without_its_secret(api: ApiClient) -> None:
    headers = {"idempotency-key": "once"}
    first, second = (api.request("POST", PATH, body=NEW, headers=headers).json for _ in range(2))
    assert (first["id"], second["secret"]) == (second["id"], None)
    rotate = f"{PATH}/{first['id']}/rotate-secret"
    first, second = (api.request("POST", rotate, headers={"idempotency-key": "two"}).json for _ in range(2))
    assert (bool(first["secret"]), second["secret"]) == (True, None)


def test_rotation_gives_another_secret(api: ApiClient) -> None:
    created = create(api)
    rotated = api.post(f"{PATH}/{created['id']}/rotate-secret").json
    assert rotated["secret"] != created["secret"]
    assert rotated["previous_secret_until"] is not None


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/", "ftp://example.com/", "example.com", "https://", "https:///path", "https://[::1/",
        "https://example.com:99999/", "https://user:pw@example.com/", "https://example.com/#x", "https://exämple.com/",
        "https://example.com/a b", "https://example.com/\r\nX: y", "https://127.0.0.1/", "https://[::1]/",
        "https://169.254.169.254/latest", "https://10.0.0.1/", "https://localhost/", "https://a.internal/",
        "https://[::ffff:10.0.0.1]/", "https://0/", "https://2130706433/", "https://0x7f.1/",
    ],
)  # fmt: skip
def test_url_that_can_never_be_delivered_to_is_refused_by_name(api: ApiClient, url: str) -> None:
    refused = api.post(PATH, {**NEW, "url": url})
    assert refused.status == 422
    assert {error["field"] for error in refused.json["errors"]} == {"url"}


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"event_types": []}, "event_types"),
        ({"event_types": ["email.gone"]}, "event_types.0"),
        ({"event_types": None}, "event_types"),
        ({"campaign_ids": []}, "campaign_ids"),
        ({"campaign_ids": [str(uuid4())]}, "campaign_ids.0"),
        ({"include_addresses": "yes"}, "include_addresses"),
        ({"secret": "mine"}, "secret"),
    ],
)
def test_wrong_field_is_named(api: ApiClient, values: dict[str, Any], field: str) -> None:
    for refused in (api.post(PATH, {**NEW, **values}), api.patch(f"{PATH}/{create(api)['id']}", values)):
        assert refused.status == 422
        assert [error["field"] for error in refused.json["errors"]] == [field]


def test_there_are_at_most_twenty(api: ApiClient) -> None:
    for _ in range(20):
        create(api)
    assert api.post(PATH, NEW).status == 409


def test_changes_are_kept_and_on_record(api: ApiClient) -> None:
    id_ = create(api)["id"]
    changed = api.patch(f"{PATH}/{id_}", {"event_types": ["email.bounced"], "is_enabled": False}).json
    assert (changed["event_types"], changed["is_enabled"]) == (["email.bounced"], False)
    assert changed["disabled_reason"] == "Disabled by a person."
    enabled = api.patch(f"{PATH}/{id_}", {"is_enabled": True}).json
    assert (enabled["is_enabled"], enabled["disabled_reason"]) == (True, None)
    assert api.post(f"{PATH}/{id_}/rotate-secret").status == 200
    assert api.post(f"{PATH}/{id_}/replay", {"since": "2026-01-01T00:00:00Z"}).status == 202
    assert api.delete(f"{PATH}/{id_}").status == 204
    actions = [entry["action"] for entry in api.get("/v1/audit-log", entity_id=id_).json["items"]]
    deeds = {action.removeprefix("webhook_endpoint.") for action in actions}
    assert deeds == {"create", "update", "rotate_secret", "replay", "delete"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/rotate-secret"), ("POST", "/test"), ("POST", "/replay"),
        ("GET", "/deliveries"),
    ],
)  # fmt: skip
def test_endpoint_that_does_not_exist_is_not_found(api: ApiClient, method: str, path: str) -> None:
    body = {"since": "2030-01-01T00:00:00Z"} if path == "/replay" else {} if method == "PATCH" else None
    assert api.request(method, f"{PATH}/{uuid4()}{path}", body=body).status == 404


def test_deliveries_show_what_was_answered(api: ApiClient, engine: sa.Engine) -> None:
    id_ = create(api)["id"]
    added = api.post(f"{PATH}/{id_}/test")
    assert (added.status, added.json["status"]) == (202, "pending")
    (leased,) = exchange(engine, {"most": 10})["deliveries"]
    told = {"id": leased["id"], "attempts": 1, "outcome": "failed", "status": 500, "text": "out of order"}
    exchange(engine, {"results": [told]})
    (shown,) = api.get(f"{PATH}/{id_}/deliveries", status="pending").json["items"]
    assert (shown["response_status"], shown["response_text"]) == (500, "out of order")
    assert api.get(f"{PATH}/{id_}/deliveries", event_type="email.sent").json["items"] == []
    replayed = api.post(f"{PATH}/{id_}/replay", {"since": shown["occurred_at"]})
    assert (replayed.status, replayed.json) == (202, {"events": 1, "next_after": None})


def test_deliveries_come_in_pages(api: ApiClient) -> None:
    id_, other = create(api)["id"], create(api)["id"]
    for _ in range(3):
        api.post(f"{PATH}/{id_}/test")
        api.post(f"{PATH}/{other}/test")
    first = api.get(f"{PATH}/{id_}/deliveries", limit=2).json
    second = api.get(f"{PATH}/{id_}/deliveries", limit=2, cursor=first["next_cursor"]).json
    ids = [item["id"] for item in [*first["items"], *second["items"]]]
    assert (len(ids), ids, second["next_cursor"]) == (3, sorted(ids, reverse=True), None)


def test_disabled_endpoint_is_not_tested(api: ApiClient) -> None:
    id_ = create(api)["id"]
    api.patch(f"{PATH}/{id_}", {"is_enabled": False})
    assert api.post(f"{PATH}/{id_}/test").status == 409


def test_overview_notices_an_endpoint_that_was_disabled_for_its_failures(api: ApiClient, engine: sa.Engine) -> None:
    by_hand, failing = (api.post(PATH, NEW).json["id"] for _ in range(2))
    api.patch(f"{PATH}/{by_hand}", {"is_enabled": False})
    assert api.get("/v1/overview").json["webhook_endpoints_disabled"] == 0
    with engine.begin() as connection:
        failed = sa.update(webhook_endpoints).where(webhook_endpoints.c.id == failing)
        connection.execute(failed.values(is_enabled=False, disabled_reason="Each attempt has failed for 24 hours."))
    assert api.get("/v1/overview").json["webhook_endpoints_disabled"] == 1
