"""API keys are made, shown without their secrets, and end at once; the audit log says who did it."""

from __future__ import annotations

import datetime as dt
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from sendledger.access import api_keys as keys
from sendledger.core.errors import Conflict
from sendledger.core.tables import api_keys
from sendledger.core.vocabulary import Role
from testbed.invariants import wait_for
from tests.campaigns.test_intake import waiting_for_locks
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


def own_id(api: ApiClient) -> str:
    created = api.post("/v1/api-keys", {"name": "script", "role": "viewer"}).json
    (entry,) = api.get("/v1/audit-log", entity_id=created["id"]).json["items"]
    return str(entry["actor"]).removeprefix("api_key:")


def test_key_revokes_itself_only_if_told_to(api: ApiClient) -> None:
    api.post("/v1/api-keys", {"name": "second", "role": "admin"})
    path = f"/v1/api-keys/{own_id(api)}"
    refused = api.delete(path)
    assert (refused.status, "force=true" in refused.json["detail"]) == (409, True)
    assert api.get("/v1/leads").status == 200
    assert api.request("DELETE", path, query={"force": "true"}).status == 204
    assert api.get("/v1/leads").status == 401


def test_last_key_of_an_administrator_cannot_be_revoked(api: ApiClient) -> None:
    refused = api.request("DELETE", f"/v1/api-keys/{own_id(api)}", query={"force": "true"})
    assert (refused.status, "last key of an administrator" in refused.json["detail"]) == (409, True)
    assert api.get("/v1/leads").status == 200


def test_key_that_expires_does_not_replace_an_administrators_key_that_does_not(api: ApiClient) -> None:
    later = (dt.datetime.now(dt.UTC) + dt.timedelta(days=1)).isoformat()
    expiring = {"name": "for a day", "role": "admin", "expires_at": later}
    second = ApiClient(api.handler, api.post("/v1/api-keys", expiring).json["key"])
    path = f"/v1/api-keys/{own_id(api)}"
    assert second.delete(path).status == 409
    api.post("/v1/api-keys", {"name": "for good", "role": "admin"})
    assert second.delete(path).status == 204


def test_administrators_who_revoke_each_other_at_once_leave_one_behind(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    connection.execute(sa.delete(api_keys))
    created = [keys.create(connection, name, Role.ADMIN) for name in ("first", "second")]
    callers = [keys.authenticate(connection, each.key) for each in created]
    connection.commit()
    first, second = callers
    assert first is not None
    assert second is not None

    def revoke_first() -> None:
        with engine.begin() as own:
            keys.revoke(own, created[0].id, second)

    # Not through the handler, which serves one request at a time, as on Lambda.
    with ThreadPoolExecutor(1) as pool:
        keys.revoke(connection, created[1].id, first)
        revoking = pool.submit(revoke_first)
        wait_for(lambda: revoking.done() or waiting_for_locks(engine) == 1, "a revocation that waits for the other")
        connection.commit()
        with pytest.raises(Conflict, match="This is the last key of an administrator"):
            revoking.result()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"role": "viewer"}, "name"),
        ({"name": "x"}, "role"),
        ({"name": "x", "role": "owner"}, "role"),
        ({"name": "", "role": "viewer"}, "name"),
        ({"name": " \t\u00a0", "role": "viewer"}, "name"),
        *(
            ({"name": "x", "role": "viewer", "expires_at": at}, "expires_at")
            for at in (
                *("tomorrow", 1893456000, "1893456000", "2030-01-01", "2030-01-01T00:00:00", "2020-01-01T00:00:00Z"),
                *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999-14:00", "10000-01-01T00:00:00Z"),
            )
        ),
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


def test_overview_says_when_the_last_key_of_an_administrator_expires(api: ApiClient, connection: sa.Connection) -> None:
    def expire_in(days: int, role: str = "admin") -> None:
        expiry = sa.func.now() + dt.timedelta(days=days)
        connection.execute(sa.update(api_keys).where(api_keys.c.role == role).values(expires_at=expiry))
        connection.commit()

    expire_in(1, "viewer")
    expire_in(40)
    assert api.get("/v1/overview").json["administrators_until"] is None
    expire_in(29)
    said = dt.datetime.fromisoformat(api.get("/v1/overview").json["administrators_until"])
    assert dt.timedelta(days=28) < said - dt.datetime.now(dt.UTC) < dt.timedelta(days=30)
    assert api.post("/v1/api-keys", {"name": "Nina", "role": "admin"}).status == 201
    assert api.get("/v1/overview").json["administrators_until"] is None
