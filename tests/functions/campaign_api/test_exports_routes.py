"""Exports through the API: asked for, shown, downloaded."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import sqlalchemy as sa

from sendledger.core.tables import exports
from sendledger.exports.write_export import write_export
from sendledger.files.file_bucket import FileBucket
from testbed.campaigns import make_campaign
from tests.functions.campaign_api.api_client import ApiClient

pytestmark = pytest.mark.usefixtures("bucket_of_the_api")


def test_export_waits_until_it_is_written(api: ApiClient) -> None:
    answer = api.post("/v1/exports", {"kind": "leads", "filters": {"status": "new"}})
    assert answer.status == 202
    expected = {
        "kind": "leads",
        "filters": {"status": "new"},
        "status": "pending",
        "rows_written": 0,
        "download_url": None,
        "completed_at": None,
    }
    assert {name: answer.json[name] for name in expected} == expected
    assert api.get(f"/v1/exports/{answer.json['id']}").json == answer.json


@pytest.mark.parametrize(("query", "start"), [({"for": "excel"}, b'\xef\xbb\xbf"id",'), ({}, b'"id",')])
def test_export_for_excel_begins_with_a_byte_order_mark(
    api: ApiClient, engine: sa.Engine, bucket: FileBucket, query: dict[str, str], start: bytes
) -> None:
    created = api.request("POST", "/v1/exports", body={"kind": "leads"}, query=query).json
    assert created["made_for"] == query.get("for")
    write_export(engine, bucket, UUID(created["id"]), float("inf"))
    assert httpx.get(api.get(f"/v1/exports/{created['id']}").json["download_url"]).content.startswith(start)


def test_export_for_an_unknown_program_is_refused(api: ApiClient) -> None:
    answer = api.request("POST", "/v1/exports", body={"kind": "leads"}, query={"for": "lotus"})
    assert (answer.status, answer.fields) == (422, ["for"])


def test_written_export_can_be_downloaded_for_a_week(api: ApiClient, engine: sa.Engine, bucket: FileBucket) -> None:
    api.post("/v1/leads", {"email": "ann@acme.com"})
    export_id = api.post("/v1/exports", {"kind": "leads"}).json["id"]
    write_export(engine, bucket, UUID(export_id), float("inf"))
    shown = api.get(f"/v1/exports/{export_id}").json
    assert (shown["status"], shown["rows_written"]) == ("completed", 1)
    file = httpx.get(shown["download_url"])
    assert file.headers["content-disposition"].startswith('attachment; filename="leads-')
    assert file.headers["content-type"] == "text/csv; charset=utf-8"
    assert ',"ann@acme.com",' in file.text.splitlines()[1]
    with engine.begin() as connection:
        connection.execute(sa.update(exports).values(completed_at=sa.func.now() - sa.text("interval '8 days'")))
    assert api.get(f"/v1/exports/{export_id}").json["download_url"] is None


def test_exports_are_listed_newest_first_with_their_urls(api: ApiClient, engine: sa.Engine, bucket: FileBucket) -> None:
    ids = [api.post("/v1/exports", {"kind": "leads"}).json["id"] for _ in range(5)]
    write_export(engine, bucket, UUID(ids[0]), float("inf"))
    page = api.get("/v1/exports", limit=2).json
    listed = page["items"]
    while page["next_cursor"]:
        page = api.get("/v1/exports", limit=2, cursor=page["next_cursor"]).json
        listed += page["items"]
    assert [item["id"] for item in listed] == ids[::-1]
    assert [item["download_url"] is not None for item in listed] == [False] * 4 + [True]
    assert [item["id"] for item in api.get("/v1/exports", sort="created_at").json["items"]] == ids


def test_exports_are_filtered_by_kind_status_and_campaign(
    api: ApiClient, engine: sa.Engine, connection: sa.Connection, bucket: FileBucket
) -> None:
    campaign_ids = [str(make_campaign(connection, 1)) for _ in range(2)]
    of_leads = api.post("/v1/exports", {"kind": "leads"}).json["id"]
    first, second = (
        api.post("/v1/exports", {"kind": "campaign_ledger", "campaign_id": id_}).json["id"] for id_ in campaign_ids
    )
    write_export(engine, bucket, UUID(first), float("inf"))

    def found(**query: str) -> list[str]:
        return [item["id"] for item in api.get("/v1/exports", **query).json["items"]]

    assert found(kind="leads") == [of_leads]
    assert found(kind="campaign_ledger") == [second, first]
    assert found(campaign_id=campaign_ids[1]) == [second]
    assert found(status="completed") == [first]
    assert found(status="pending", kind="campaign_ledger") == [second]
    assert found(status="failed") == []


@pytest.mark.parametrize(
    "query", [{"kind": "emails"}, {"status": "done"}, {"campaign_id": "x"}, {"sort": "kind"}, {"state": "failed"}]
)
def test_bad_filter_of_exports_is_refused_naming_it(api: ApiClient, query: dict[str, str]) -> None:
    answer = api.get("/v1/exports", **query)
    assert (answer.status, answer.fields) == (422, list(query))


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"kind": "everything"},
        {"kind": "campaign_ledger"},
        {"kind": "campaign_ledger", "campaign_id": str(uuid4())},
        {"kind": "leads", "campaign_id": str(uuid4())},
        {"kind": "leads", "filters": {"status": "old"}},
        {"kind": "leads", "filters": {"colour": "red"}},
        {"kind": "leads", "columns": []},
    ],
)
def test_bad_export_is_refused(api: ApiClient, body: Any) -> None:
    answer = api.post("/v1/exports", body)
    assert (answer.status, bool(answer.fields)) == (422, True)


def test_unknown_export_is_not_found(api: ApiClient) -> None:
    assert api.get(f"/v1/exports/{uuid4()}").status == 404


def test_viewer_does_not_export(clients: dict[str, ApiClient]) -> None:
    assert clients["viewer"].post("/v1/exports", {"kind": "leads"}).status == 403
    assert clients["editor"].post("/v1/exports", {"kind": "leads"}).status == 202
