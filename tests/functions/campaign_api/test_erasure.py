"""Erasing a lead through the API."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import sqlalchemy as sa

from testbed.databases import wait_until
from tests.functions.campaign_api.api_client import ApiClient

BLOCKED = "EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')"
LEAD = {"email": "zweistein@example.com", "first_name": "Zweistein"}


def test_erased_lead_is_empty(api: ApiClient) -> None:
    path = f"/v1/leads/{api.post('/v1/leads', LEAD).json['id']}"
    erased = api.post(f"{path}/erase", {"keep_suppressed": True})
    assert erased.status == 200, erased.body
    assert (erased.json["leads_erased"], erased.json["is_suppressed"]) == (1, True)
    shown = api.get(path).json
    assert (shown["email"], shown["first_name"], shown["custom_fields"]) == (None, None, {})
    assert [item["value"] for item in api.get("/v1/suppressions").json["items"]] == [LEAD["email"]]


def test_erased_lead_cannot_be_changed(api: ApiClient) -> None:
    path = f"/v1/leads/{api.post('/v1/leads', LEAD).json['id']}"
    assert api.get(path).json["erased_at"] is None
    erased = api.post(f"{path}/erase", {"keep_suppressed": False}).json
    answer = api.request("PATCH", path, body={"first_name": "Zweistein"})
    assert (answer.status, answer.json["type"]) == (409, "urn:sendledger:problem:conflict")
    assert "was erased" in answer.json["detail"]
    shown = api.get(path).json
    assert (shown["first_name"], shown["erased_at"]) == (None, erased["erased_at"])


def test_keep_suppressed_is_required(api: ApiClient) -> None:
    path = f"/v1/leads/{api.post('/v1/leads', LEAD).json['id']}/erase"
    answer = api.post(path, {})
    assert (answer.status, answer.fields) == (422, ["keep_suppressed"])


def test_repeated_request_does_not_reveal_erased_data(api: ApiClient, engine: sa.Engine) -> None:
    headers = {"Idempotency-Key": "k"}
    created = api.request("POST", "/v1/leads", body=LEAD, headers=headers)
    api.post(f"/v1/leads/{created.json['id']}/erase", {"keep_suppressed": False})
    again = api.request("POST", "/v1/leads", body=LEAD, headers=headers)
    assert (again.status, again.body) == (201, "")
    with engine.connect() as connection:
        assert not connection.scalar(
            sa.text("SELECT count(*) FROM idempotency_keys k WHERE k::text ILIKE '%zweistein%'")
        )


def test_lead_that_is_deleted_while_it_is_erased_is_not_found(api: ApiClient, engine: sa.Engine) -> None:
    path = f"/v1/leads/{api.post('/v1/leads', LEAD).json['id']}"
    with ThreadPoolExecutor(1) as pool:
        with engine.begin() as connection:
            connection.execute(sa.text("DELETE FROM leads"))
            erasing = pool.submit(api.post, f"{path}/erase", {"keep_suppressed": False})
            wait_until(engine, BLOCKED)
        answer = erasing.result(300)
    assert answer.status == 404, answer.body
