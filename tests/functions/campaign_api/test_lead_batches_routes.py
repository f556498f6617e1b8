"""Imports through the API."""

from __future__ import annotations

import io
import zipfile
from typing import Any
from uuid import uuid4

import pytest

from tests.functions.campaign_api.api_client import Answer, ApiClient

FILE = """\
Email Address,First Name,Last Name,Company,Plan
ann@acme.com,Ann,Lee,Acme,Pro
bob@acme.com,Bob,Ray,"Acme, Inc
Berlin",
Ann@Acme.com,Ann,Again,Acme,
nobody,No,Body,Acme,
"""


def post(api: ApiClient, body: str | bytes, content_type: str = "text/csv", **query: object) -> Answer:
    headers = {"content-type": content_type}
    return api.request("POST", "/v1/lead-batches", query={"name": "May", **query}, body=body, headers=headers)


def form(boundary: str, name: str, content: str) -> str:
    return (
        f'--{boundary}\r\nContent-Disposition: form-data; name="note"\r\n\r\nfile\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; {name}; filename="file.csv"\r\n'
        f"Content-Type: text/csv\r\n\r\n{content}\r\n--{boundary}--\r\n"
    )


@pytest.mark.parametrize(
    ("boundary", "given"),
    [("x", "x"), ("x y", '"x y"'), ("----WebKitFormBoundary7MA", "----WebKitFormBoundary7MA; charset=utf-8")],
)
@pytest.mark.parametrize("name", ['name="file"', "name=file"])
def test_file_may_be_sent_in_a_form(api: ApiClient, boundary: str, given: str, name: str) -> None:
    imported = post(api, form(boundary, name, FILE), f"multipart/form-data; boundary={given}")
    assert imported.status == 201
    as_it_is = post(api, FILE).json
    assert [imported.json[count] for count in ("total_leads", "failed_imports")] == [4, 1]
    assert imported.json["errors"] == as_it_is["errors"]
    assert imported.json["successful_imports"] == 2


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", form("x", 'name="file"', FILE)),
        ("multipart/form-data; boundary=y", form("x", 'name="file"', FILE)),
        ("multipart/form-data; boundary=x", form("x", 'name="files"', FILE)),
        ("multipart/form-data; boundary=x", "--x" * 100_000),
        ("multipart/form-data; boundary=x", "--x\r\n" * 100_000),
        ("multipart/form-data; boundary=é", "--é\r\n\r\n"),
        ("multipart/form-data; boundary=x", ""),
    ],
)
def test_form_without_a_file_is_refused(api: ApiClient, content_type: str, body: str) -> None:
    refused = post(api, body, content_type)
    assert refused.status == 422
    assert refused.fields == ["file"]


@pytest.fixture
def batch(api: ApiClient) -> dict[str, Any]:
    imported: dict[str, Any] = post(api, FILE).json
    return imported


def test_answer_accounts_for_every_row(api: ApiClient) -> None:
    imported = post(api, FILE, source_file="may.csv")
    assert imported.status == 201
    expected = {
        "name": "May",
        "source_file": "may.csv",
        "uploaded_by": "admin",
        "total_leads": 4,
        "successful_imports": 2,
        "failed_imports": 1,
        "duplicates_skipped": 1,
        "active_campaign_id": None,
        "campaign_history": [],
        "errors": [
            {
                "row": 6,
                "field": "email",
                "code": "invalid_email",
                "message": "This is not an email address: it has no @-sign.",
            }
        ],
    }
    assert {name: imported.json[name] for name in expected} == expected
    assert imported.json["completed_at"].endswith("Z")


def test_imported_leads_are_listed_by_their_batch(api: ApiClient, batch: dict[str, Any]) -> None:
    api.post("/v1/leads", {"email": "eve@acme.com"})
    listed = api.get("/v1/leads", batch_id=batch["id"]).json["items"]
    leads = {lead["email"]: lead for lead in listed}
    assert set(leads) == {"ann@acme.com", "bob@acme.com"}
    ann = leads["ann@acme.com"]
    assert (ann["first_name"], ann["last_name"], ann["contact_name"]) == ("Ann", "Lee", "Ann Lee")
    assert (ann["custom_fields"], ann["source"]) == ({"Plan": "Pro"}, "csv_import")
    assert leads["bob@acme.com"]["company_name"] == "Acme, Inc Berlin"


def test_same_file_twice_adds_nothing(api: ApiClient, batch: dict[str, Any]) -> None:
    again = post(api, FILE).json
    assert (again["total_leads"], again["successful_imports"], again["duplicates_skipped"]) == (4, 0, 3)
    assert len(api.get("/v1/leads").json["items"]) == 2


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_file_that_is_not_utf_8_arrives_whole(api: ApiClient, encoding: str) -> None:
    imported = post(api, "email;city\r\nann@acme.com;Köln\r\n".encode(encoding), "text/csv")
    assert imported.json["successful_imports"] == 1
    assert api.get("/v1/leads").json["items"][0]["city"] == "Köln"


def test_charset_of_the_media_type_is_used(api: ApiClient) -> None:
    post(api, "email;city\r\nann@acme.com;Łódź\r\n".encode("iso-8859-2"), "text/csv; charset=ISO-8859-2")
    assert api.get("/v1/leads").json["items"][0]["city"] == "Łódź"


@pytest.mark.parametrize("charset", ["klingon", "unicode_escape", '""'])
def test_unknown_charset_is_refused(api: ApiClient, charset: str) -> None:
    answer = post(api, FILE, f"text/csv; charset={charset}")
    assert answer.status == 415
    assert "Send the file as UTF-8" in answer.json["detail"]


def test_person_who_opted_out_is_reported_and_suppressed(api: ApiClient) -> None:
    imported = post(api, "email,Accepts Email Marketing\nann@acme.com,no\nbob@acme.com,yes\n").json
    assert (imported["successful_imports"], imported["failed_imports"]) == (1, 1)
    assert (imported["addresses_suppressed"], imported["emails_skipped"]) == (1, 0)
    assert imported["errors"] == [
        {
            "row": 2,
            "field": "Accepts Email Marketing",
            "code": "opted_out",
            "message": "This person must not be mailed: Accepts Email Marketing is no. "
            "The address was suppressed instead of imported.",
        }
    ]
    assert [item["value"] for item in api.get("/v1/suppressions").json["items"]] == ["ann@acme.com"]


def test_batch_can_be_read_and_listed(api: ApiClient, batch: dict[str, Any]) -> None:
    of_the_import = (
        "errors",
        "warnings",
        "addresses_suppressed",
        "emails_skipped",
        "columns",
        "rejected",
        "rejects_csv",
    )
    for name in of_the_import:
        del batch[name]
    # What is kept of an upload: one in a request has told it in its answer.
    of_an_upload = ("rejects_url", "rejects_url_expires_at", "columns", "chosen_columns", "rejected")
    shown = batch | dict.fromkeys(of_an_upload) | {"dry_run": False}
    assert api.get(f"/v1/lead-batches/{batch['id']}").json == shown
    assert api.get("/v1/lead-batches").json == {"items": [batch], "next_cursor": None}


def test_deleted_batch_is_gone_with_its_leads(api: ApiClient, batch: dict[str, Any]) -> None:
    assert api.delete(f"/v1/lead-batches/{batch['id']}").status == 204
    assert api.get(f"/v1/lead-batches/{batch['id']}").status == 404
    assert api.get("/v1/leads").json["items"] == []
    assert api.delete(f"/v1/lead-batches/{uuid4()}").status == 404


def workbook() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    return content.getvalue()


UNREADABLE: dict[str, tuple[bytes | str, str]] = {
    "nothing": ("", "empty"),
    "no column for the address": ("Name,City\nAnn,Berlin\n", "Name, City"),
    "no header": ("ann@acme.com\n", "header"),
    "workbook": (workbook(), "xlsx"),
    "endless line": ("email\n" + "x" * 1_000_001, "1,000,000"),
}


@pytest.mark.parametrize(("body", "reason"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_unreadable_file_is_refused_with_a_reason(api: ApiClient, body: bytes | str, reason: str) -> None:
    answer = post(api, body)
    assert (answer.status, answer.json["type"]) == (422, "urn:sendledger:problem:unreadable_file")
    assert reason in answer.json["detail"]
    assert answer.fields
    assert api.get("/v1/lead-batches").json["items"] == []


def test_large_file_is_refused_with_the_way_to_upload_it(api: ApiClient) -> None:
    answer = post(api, "email\n" + "x" * 3_000_000)
    assert answer.status == 413
    assert "/v1/lead-batches/uploads" in answer.json["detail"]


def test_other_media_type_is_refused(api: ApiClient) -> None:
    assert post(api, '{"email": "ann@acme.com"}', "application/json").status == 415


@pytest.mark.parametrize("name", ["", " ", "x" * 256])
def test_bad_name_is_refused(api: ApiClient, name: str) -> None:
    answer = post(api, FILE, name=name)
    assert (answer.status, answer.fields) == (422, ["name"])


def test_missing_name_is_refused(api: ApiClient) -> None:
    answer = api.request("POST", "/v1/lead-batches", body=FILE, headers={"content-type": "text/csv"})
    assert (answer.status, answer.fields) == (422, ["name"])


def test_viewer_does_not_import(clients: dict[str, ApiClient]) -> None:
    assert post(clients["viewer"], FILE).status == 403
    assert post(clients["editor"], FILE).status == 201


def test_columns_are_corrected_and_told(api: ApiClient) -> None:
    imported = post(api, FILE, columns='{"Plan": "notes", "Last Name": "ignored"}')
    told = {column["name"]: column["field"] for column in imported.json["columns"]}
    assert told == {
        "Email Address": "email",
        "First Name": "first_name",
        "Last Name": "ignored",
        "Company": "company_name",
        "Plan": "notes",
    }
    assert imported.json["columns"][4]["samples"] == ["Pro"]
    (ann,) = api.get("/v1/leads", email="ann@acme.com").json["items"]
    assert (ann["notes"], ann["last_name"], ann["custom_fields"]) == ("Pro", None, {})


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("{", "must be a JSON object"),
        ("[]", "must be a JSON object"),
        ('{"Plan": "king"}', "one of email, company_name"),
        ('{"Plan": ["notes"]}', "one of email, company_name"),
        ('{"Plans": "notes"}', "the file has no column Plans; it has Email Address, First Name"),
        ("[" * 5_000, "must be a JSON object"),
    ],
)
def test_columns_that_are_not_valid_are_refused(api: ApiClient, columns: str, said: str) -> None:
    refused = post(api, FILE, columns=columns)
    assert (refused.status, refused.fields) == (422, ["columns"])
    assert said in refused.json["errors"][0]["message"]
    assert api.get("/v1/lead-batches").json["items"] == []
