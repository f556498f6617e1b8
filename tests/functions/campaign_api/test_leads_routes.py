"""Leads through the API."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.functions.campaign_api.api_client import ApiClient

ANN = {
    "email": "ann@acme.com",
    "first_name": "Ann",
    "last_name": "Lee",
    "company_name": "Acme",
    "tags": ["VIP"],
    "custom_fields": {"plan": "Pro", "seats": 5, "trial": False},
}


@pytest.fixture
def lead(api: ApiClient) -> dict[str, Any]:
    created: dict[str, Any] = api.post("/v1/leads", ANN).json
    return created


def test_created_lead_can_be_read(api: ApiClient) -> None:
    created = api.post("/v1/leads", ANN)
    assert created.status == 201
    assert {name: created.json[name] for name in ANN} == ANN
    assert created.json["contact_name"] == "Ann Lee"
    assert created.json["created_at"].endswith("Z")
    assert api.get(f"/v1/leads/{created.json['id']}").json == created.json


def test_lead_needs_only_an_address(api: ApiClient) -> None:
    created = api.post("/v1/leads", {"email": "Bob <bob@acme.com>"})
    assert created.status == 201
    assert created.json["email"] == "bob@acme.com"
    assert created.json["company_name"] is None
    assert created.json["custom_fields"] == {}


BAD_LEADS: dict[str, tuple[object, list[str]]] = {
    "nothing": ({}, ["email"]),
    "no address": ({"email": ""}, ["email"]),
    "not an address": ({"email": "nobody"}, ["email"]),
    "null address": ({"email": None}, ["email"]),
    "wrong type": (ANN | {"city": 5}, ["city"]),
    "too long": (ANN | {"phone": "1" * 51}, ["phone"]),
    "line feed in the address": ({"email": "a@b.com\nbcc:c@d.com"}, ["email"]),
    "control character": (ANN | {"city": "a\x07b"}, ["city"]),
    "control character in a custom field": (ANN | {"custom_fields": {"plan": "\x1b"}}, ["custom_fields.plan"]),
    "NUL": (ANN | {"city": "a\0b"}, ["city"]),
    "extra field": (ANN | {"name": "Ann"}, ["name"]),
    "status": (ANN | {"status": "new"}, ["status"]),
    "custom field for a name": (ANN | {"custom_fields": {"first_name": "Ann"}}, ["custom_fields"]),
    "nested custom field": (ANN | {"custom_fields": {"plan": {"a": "b"}}}, ["custom_fields.plan.str"]),
    "many tags": (ANN | {"tags": ["x"] * 101}, ["tags"]),
    "not an object": ([ANN], ["body"]),
}


@pytest.mark.parametrize(("body", "fields"), BAD_LEADS.values(), ids=BAD_LEADS.keys())
def test_bad_lead_is_refused_naming_the_field(api: ApiClient, body: object, fields: list[str]) -> None:
    answer = api.post("/v1/leads", body)
    assert answer.status == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.fields[: len(fields)] == fields


def test_second_lead_with_an_address_is_a_conflict_that_names_the_first(api: ApiClient, lead: dict[str, Any]) -> None:
    answer = api.post("/v1/leads", {"email": "ANN@acme.com"})
    assert answer.status == 409
    assert answer.json["lead_id"] == lead["id"]


def test_only_the_given_fields_change(api: ApiClient, lead: dict[str, Any]) -> None:
    changed = api.patch(f"/v1/leads/{lead['id']}", {"city": "Berlin", "company_name": None, "status": "responded"})
    assert changed.status == 200
    changes = {"city": "Berlin", "company_name": None, "status": "responded"}
    assert changed.json == lead | changes | {"updated_at": changed.json["updated_at"]}


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"email": None}, ["email"]),
        ({"email": "nobody"}, ["email"]),
        ({"status": None}, ["status"]),
        ({"status": "paused"}, ["status"]),
        ({"tags": None}, ["tags"]),
        ({"id": "x"}, ["id"]),
    ],
)
def test_bad_change_is_refused_naming_the_field(
    api: ApiClient, lead: dict[str, Any], changes: object, fields: list[str]
) -> None:
    answer = api.patch(f"/v1/leads/{lead['id']}", changes)
    assert (answer.status, answer.fields) == (422, fields)
    assert api.get(f"/v1/leads/{lead['id']}").json == lead


def test_address_of_another_lead_is_a_conflict(api: ApiClient, lead: dict[str, Any]) -> None:
    other = api.post("/v1/leads", {"email": "eve@acme.com"}).json
    answer = api.patch(f"/v1/leads/{other['id']}", {"email": "ann@acme.com"})
    assert (answer.status, answer.json["lead_id"]) == (409, lead["id"])


def test_deleted_lead_is_gone(api: ApiClient, lead: dict[str, Any]) -> None:
    assert api.delete(f"/v1/leads/{lead['id']}").status == 204
    assert api.get(f"/v1/leads/{lead['id']}").status == 404
    assert api.delete(f"/v1/leads/{lead['id']}").status == 404


def test_unknown_lead_is_not_found(api: ApiClient) -> None:
    for answer in (api.get(f"/v1/leads/{uuid4()}"), api.patch(f"/v1/leads/{uuid4()}", {"city": "x"})):
        assert answer.status == 404


def test_list_is_filtered_and_paged(api: ApiClient) -> None:
    for number in range(3):
        api.post("/v1/leads", {"email": f"lead{number}@acme.com"})
    api.post("/v1/leads", {"email": "eve@other.com"})
    first = api.get("/v1/leads", search="acme", limit=2)
    second = api.get("/v1/leads", search="acme", limit=2, cursor=first.json["next_cursor"])
    assert [lead["email"] for lead in first.json["items"] + second.json["items"]] == [
        "lead2@acme.com",
        "lead1@acme.com",
        "lead0@acme.com",
    ]
    assert second.json["next_cursor"] is None
    assert [lead["email"] for lead in api.get("/v1/leads", email="EVE@other.com").json["items"]] == ["eve@other.com"]


@pytest.mark.parametrize(
    "query",
    [
        *({"status": "old"}, {"batch_id": "x"}, {"search": ""}, {"limit": 0}, {"scan_limit": 0}),
        *({"cursor": "x"}, {"name": "x"}),
    ],
)
def test_bad_filter_is_refused_naming_it(api: ApiClient, query: dict[str, object]) -> None:
    answer = api.get("/v1/leads", **query)
    assert (answer.status, answer.fields) == (422, list(query))


def test_viewer_reads_and_does_not_write(clients: dict[str, ApiClient], lead: dict[str, Any]) -> None:
    viewer = clients["viewer"]
    assert viewer.get("/v1/leads").status == 200
    assert viewer.post("/v1/leads", ANN).status == 403
    assert viewer.patch(f"/v1/leads/{lead['id']}", {}).status == 403
    assert viewer.delete(f"/v1/leads/{lead['id']}").status == 403
