"""API keys are made, shown without their secrets, and end at once; the audit log says who did it."""

from __future__ import annotations

import pytest

from tests.functions.campaign_api.api_client import ApiClient

UNKNOWN = "123e4567-e89b-12d3-a456-426614174000"


def test_new_key_works_with_its_role(api: ApiClient) -> None:
    created = api.post("/v1/api-keys", {"name": "script", "role": "viewer"})
    assert created.status == 201
    script = ApiClient(api.handler, created.json["key"])
    assert script.get("/v1/leads").status == 200
    assert script.post("/v1/leads", {"email": "ann@example.com"}).status == 403


def test_secret_is_never_listed(api: ApiClient) -> None:
    created = api.post("/v1/api-keys", {"name": "script", "role": "viewer"}).json
    listed = api.get("/v1/api-keys")
    assert created["id"] in [item["id"] for item in listed.json["items"]]
    assert created["key"] not in (listed.body or "")
    assert all("key" not in item and "key_hash" not in item for item in listed.json["items"])


def test_revoked_key_ends_at_once(api: ApiClient) -> None:
    created = api.post("/v1/api-keys", {"name": "script", "role": "viewer"}).json
    script = ApiClient(api.handler, created["key"])
    assert api.delete(f"/v1/api-keys/{created['id']}").status == 204
    assert script.get("/v1/leads").status == 401
    assert api.delete(f"/v1/api-keys/{created['id']}").status == 204
    shown = {item["id"]: item for item in api.get("/v1/api-keys").json["items"]}
    assert shown[created["id"]]["revoked_at"] is not None


def test_expired_key_is_refused(api: ApiClient) -> None:
    body = {"name": "script", "role": "viewer", "expires_at": "2020-01-01T00:00:00Z"}
    assert ApiClient(api.handler, api.post("/v1/api-keys", body).json["key"]).get("/v1/leads").status == 401


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"role": "viewer"}, "name"),
        ({"name": "x"}, "role"),
        ({"name": "x", "role": "owner"}, "role"),
        ({"name": "x", "role": "viewer", "expires_at": "tomorrow"}, "expires_at"),
        ({"name": "x", "role": "viewer", "key": "mine"}, "key"),
    ],
)
def test_bad_key_is_refused_by_field(api: ApiClient, body: object, field: str) -> None:
    answer = api.post("/v1/api-keys", body)
    assert (answer.status, answer.fields) == (422, [field])


def test_revoking_an_unknown_key_is_not_found(api: ApiClient) -> None:
    assert api.delete(f"/v1/api-keys/{UNKNOWN}").status == 404


def test_audit_log_says_who_made_and_revoked_a_key(api: ApiClient) -> None:
    created = api.post("/v1/api-keys", {"name": "script", "role": "sender"}).json
    api.delete(f"/v1/api-keys/{created['id']}")
    entries = api.get("/v1/audit-log", entity_type="api_key", entity_id=created["id"]).json["items"]
    assert [entry["action"] for entry in entries] == ["api_key.create", "api_key.revoke"]
    assert entries[0]["detail"] == {"role": "sender"}
    assert len({entry["actor"] for entry in entries}) == 1
    assert entries[0]["actor"].startswith("api_key:")


def test_audit_log_is_paged_and_filtered(api: ApiClient) -> None:
    for number in range(3):
        api.post("/v1/api-keys", {"name": str(number), "role": "viewer"})
    first = api.get("/v1/audit-log", limit=2, action="api_key.create").json
    second = api.get("/v1/audit-log", limit=2, action="api_key.create", cursor=first["next_cursor"]).json
    assert (len(first["items"]), len(second["items"]), second["next_cursor"]) == (2, 1, None)
    assert api.get("/v1/audit-log", action="nothing").json["items"] == []
