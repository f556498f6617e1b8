"""Suppressions over HTTP: list, add, import and remove with a reason."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
import sqlalchemy as sa

from sendledger.campaigns import lifecycle
from sendledger.core.tables import audit_log
from testbed.campaigns import DAY, NO_DELAY, campaign_row, make_campaign, statuses
from tests.functions.campaign_api.api_client import ApiClient

CSV = {"Content-Type": "text/csv"}


@pytest.fixture
def campaign_id(engine: sa.Engine, connection: sa.Connection) -> uuid.UUID:
    """A campaign of two steps to ann and bob that has been started."""
    started = make_campaign(connection, ["ann@example.com", "bob@example.org"], [NO_DELAY, DAY])
    lifecycle.start_campaign(engine, started)
    return started


def test_address_is_suppressed_and_its_planned_emails_are_skipped(
    api: ApiClient, engine: sa.Engine, campaign_id: uuid.UUID
) -> None:
    answer = api.post("/v1/suppressions", {"value": "Ann@Example.com", "note": "by phone"})
    assert answer.status == 201
    added = answer.json
    assert (added["value"], added["reason"], added["note"]) == ("ann@example.com", "manual", "by phone")
    assert (added["emails_skipped"], added["campaign_id"], added["removed_at"]) == (2, None, None)
    assert added["created_by"].startswith("api_key:")
    assert statuses(engine, campaign_id) == {"pending": 2, "skipped": 2}
    again = api.post("/v1/suppressions", {"value": "ann@example.com"}).json
    assert (again["id"], again["note"], again["emails_skipped"]) == (added["id"], "by phone", 0)


def test_campaign_with_nothing_left_to_send_completes(
    api: ApiClient, engine: sa.Engine, campaign_id: uuid.UUID
) -> None:
    for domain in ("example.com", "example.org"):
        api.post("/v1/suppressions", {"value": domain})
    assert campaign_row(engine, campaign_id)["status"] == "completed"


def test_suppression_may_hold_for_one_campaign(api: ApiClient, engine: sa.Engine, campaign_id: uuid.UUID) -> None:
    api.post("/v1/suppressions", {"value": "ann@example.com", "campaign_id": str(campaign_id)})
    assert statuses(engine, campaign_id) == {"pending": 2, "skipped": 2}
    answer = api.post("/v1/suppressions", {"value": "a@b.com", "campaign_id": str(uuid.uuid4())})
    assert (answer.status, answer.fields) == (422, ["campaign_id"])


@pytest.mark.parametrize("body", [{}, {"value": "nonsense"}, {"value": ""}, {"value": "a@b.com", "reason": "bounce"}])
def test_invalid_suppression_is_refused(api: ApiClient, body: dict[str, Any]) -> None:
    assert api.post("/v1/suppressions", body).status == 422
    assert api.get("/v1/suppressions").json["items"] == []


def test_list_is_filtered_and_paged(api: ApiClient) -> None:
    values = [f"lead{number}@example.com" for number in range(5)]
    for value in values:
        api.post("/v1/suppressions", {"value": value})
    first = api.get("/v1/suppressions", limit=3).json
    second = api.get("/v1/suppressions", limit=3, cursor=first["next_cursor"]).json
    assert [item["value"] for item in first["items"] + second["items"]] == values[::-1]
    assert second["next_cursor"] is None
    found = api.get("/v1/suppressions", value="LEAD2@example.com").json["items"]
    assert [item["value"] for item in found] == ["lead2@example.com"]
    assert api.get("/v1/suppressions", reason="bounce").json["items"] == []
    assert api.get("/v1/suppressions", reason="boredom").status == 422


def test_removed_suppression_stays_on_record_with_its_reason(
    api: ApiClient, connection: sa.Connection, campaign_id: uuid.UUID
) -> None:
    suppression = api.post("/v1/suppressions", {"value": "ann@example.com"}).json
    path = f"/v1/suppressions/{suppression['id']}"
    assert api.delete(path).fields == ["reason"]
    assert api.request("DELETE", path, query={"reason": "she asked for it"}).status == 204
    assert api.get("/v1/suppressions").json["items"] == []
    (removed,) = api.get("/v1/suppressions", removed=True).json["items"]
    assert (removed["id"], removed["removal_reason"]) == (suppression["id"], "she asked for it")
    assert api.request("DELETE", path, query={"reason": "again"}).status == 409
    assert api.request("DELETE", f"/v1/suppressions/{uuid.uuid4()}", query={"reason": "x"}).status == 404
    written = connection.scalars(sa.select(audit_log.c.action).where(audit_log.c.entity_id == suppression["id"]))
    assert written.all() == ["suppression.add", "suppression.remove"]


def test_json_list_is_imported(api: ApiClient, engine: sa.Engine, campaign_id: uuid.UUID) -> None:
    body = {"values": ["ann@example.com", "@example.org", "no way"], "note": "old system"}
    answer = api.post("/v1/suppressions/import", body)
    assert answer.status == 200
    done = answer.json
    assert (done["total"], done["added"], done["failed"], done["emails_skipped"]) == (3, 2, 1, 4)
    assert [error["field"] for error in done["errors"]] == ["values.2"]
    assert statuses(engine, campaign_id) == {"skipped": 4}
    assert campaign_row(engine, campaign_id)["status"] == "completed"
    assert {item["note"] for item in api.get("/v1/suppressions").json["items"]} == {"old system"}


def test_csv_file_is_imported(api: ApiClient) -> None:
    body = "Name,Email\r\nAnn,ann@example.com\r\nBob,bob@example.org\r\n"
    done = api.request("POST", "/v1/suppressions/import", body=body, headers=CSV).json
    assert (done["total"], done["added"], done["failed"]) == (2, 2, 0)
    again = api.request("POST", "/v1/suppressions/import", body=body.encode(), headers=CSV).json
    assert (again["total"], again["added"]) == (2, 0)


def reasons(api: ApiClient) -> dict[str, str]:
    return {item["value"]: item["reason"] for item in api.get("/v1/suppressions").json["items"]}


def test_each_row_of_a_file_gives_its_reason(api: ApiClient) -> None:
    body = (
        "Type,Email\nbounced,a@x.com\ncomplained,b@x.com\nunsubscribed,c@x.com\nmanual,d@x.com\n,e@x.com\nodd,f@x.com\n"
    )
    done = api.request("POST", "/v1/suppressions/import", body=body, headers=CSV).json
    assert (done["added"], done["failed"]) == (6, 0)
    assert [(warning["row"], warning["field"]) for warning in done["warnings"]] == [(7, "Type")]
    wanted = ["bounce", "complaint", "unsubscribe", "manual", "import", "import"]
    assert reasons(api) == {f"{letter}@x.com": reason for letter, reason in zip("abcdef", wanted, strict=True)}


@pytest.mark.parametrize("media_type", ["text/csv", "text/plain", "text/plain; charset=utf-8"])
def test_text_with_an_address_in_each_line_is_imported(api: ApiClient, media_type: str) -> None:
    path, headers = "/v1/suppressions/import", {"Content-Type": media_type}
    body = "a@x.com\r\n\r\nx.org\r\nc@x.com,bounced\r\n"
    done = api.request("POST", path, body=body, headers=headers, query={"reason": "unsubscribe"}).json
    assert (done["added"], done["failed"], done["warnings"]) == (3, 0, [])
    assert reasons(api) == {"a@x.com": "unsubscribe", "x.org": "unsubscribe", "c@x.com": "bounce"}


def test_reason_for_the_whole_list_must_be_one_of_ours(api: ApiClient) -> None:
    answer = api.request("POST", "/v1/suppressions/import", body={"values": ["a@x.com"]}, query={"reason": "odd"})
    assert (answer.status, answer.fields) == (422, ["reason"])


def test_bad_entries_of_a_file_are_named_by_row_and_column(api: ApiClient) -> None:
    body = "Name;E-Mail\r\nÄnn;ann@example.com\r\nBob;no way\r\n".encode("utf-16")
    done = api.request("POST", "/v1/suppressions/import", body=body, headers=CSV).json
    assert (done["total"], done["added"], done["failed"]) == (2, 1, 1)
    assert [(error["row"], error["field"]) for error in done["errors"]] == [(3, "E-Mail")]


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ({}, {}, 422),
        ({"values": "a@example.com"}, {}, 422),
        ({"values": [1]}, {}, 422),
        ({"values": [], "reason": "x"}, {}, 422),
        ("{", {}, 400),
        ("x" * 1_000_001, CSV, 422),
        ("a@example.com", {"Content-Type": "text/csv; charset=klingon"}, 415),
        ("a\x00b", CSV, 422),
        ("a@example.com", {"Content-Type": "text/html"}, 415),
    ],
)
def test_list_that_cannot_be_read_is_refused(api: ApiClient, body: Any, headers: dict[str, str], status: int) -> None:
    assert api.request("POST", "/v1/suppressions/import", body=body, headers=headers).status == status
    assert api.get("/v1/suppressions").json["items"] == []


def test_import_without_a_body_is_refused(api: ApiClient) -> None:
    assert api.request("POST", "/v1/suppressions/import").status in (400, 422)


def test_list_may_be_sent_in_a_form(api: ApiClient) -> None:
    body = '--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nann@example.com\n\r\n--x--\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = api.request("POST", "/v1/suppressions/import", body=body, headers=headers)
    assert (answer.status, answer.json["added"]) == (200, 1)
