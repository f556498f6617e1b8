"""Segments through the API."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
import sqlalchemy as sa

from testbed.campaigns import make_batch, make_template
from tests.functions.campaign_api.api_client import ApiClient

NOBODY = "123e4567-e89b-12d3-a456-426614174000"
SPA = {"kind": "field", "field": "industry", "operator": "is", "values": ["spa"]}


def test_segment_is_stored_changed_and_deleted(api: ApiClient) -> None:
    created = api.post("/v1/segments", {"name": "Spas", "filter": {"kind": "not", "condition": SPA}})
    assert (created.status, created.json["filter"]) == (201, {"kind": "not", "condition": SPA})
    path = f"/v1/segments/{created.json['id']}"
    assert api.get(path).json == created.json
    assert [each["name"] for each in api.get("/v1/segments").json["items"]] == ["Spas"]
    changed = api.patch(path, {"filter": SPA})
    assert (changed.json["name"], changed.json["filter"]) == ("Spas", SPA)
    assert api.patch(path, {"name": "All spas"}).json["filter"] == SPA
    assert api.delete(path).status == 204
    for answer in (api.get(path), api.patch(path, {"name": "x"}), api.delete(path), api.get(f"{path}/leads")):
        assert answer.status == 404


def test_leads_of_a_segment_come_in_pages_with_their_count(api: ApiClient, connection: sa.Connection) -> None:
    make_batch(connection, [f"a{number}@example.com" for number in range(5)])
    make_batch(connection, ["b@example.com"], industry="bar")
    connection.commit()
    path = f"/v1/segments/{api.post('/v1/segments', {'name': 'Spas', 'filter': SPA}).json['id']}/leads"
    first = api.get(path, limit=3).json
    assert (len(first["items"]), first["count"]) == (3, 5)
    second = api.get(path, limit=3, cursor=first["next_cursor"]).json
    assert (len(second["items"]), second["count"], second["next_cursor"]) == (2, None, None)
    shown = {lead["email"] for lead in first["items"] + second["items"]}
    assert shown == {f"a{number}@example.com" for number in range(5)}


def test_leads_of_a_segment_are_counted_among_those_that_are_looked_through(
    api: ApiClient, connection: sa.Connection
) -> None:
    make_batch(connection, ["old@example.com"], created_at=dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
    make_batch(connection, [f"a{number}@example.com" for number in range(4)])
    connection.commit()
    path = f"/v1/segments/{api.post('/v1/segments', {'name': 'Spas', 'filter': SPA}).json['id']}/leads"
    some = api.get(path, scan_limit=4).json
    assert (some["count"], some["counts_all"], len(some["items"])) == (4, False, 4)
    assert [lead["email"] for lead in api.get(path, cursor=some["next_cursor"]).json["items"]] == ["old@example.com"]
    for query in ({"scan_limit": 100}, {}):
        found = api.get(path, **query).json
        assert (found["count"], found["counts_all"], found["next_cursor"]) == (5, True, None)


WRONG: list[tuple[Any, str]] = [
    (None, "filter"),
    ({}, "filter"),
    ({"kind": "sql"}, "filter"),
    (SPA | {"field": "password"}, "filter.field"),
    (SPA | {"values": []}, "filter.values"),
    (SPA | {"operator": "is_empty"}, "filter.values"),
    (SPA | {"values": [7]}, "filter.values.0"),
    (SPA | {"more": 1}, "filter.more"),
    ({"kind": "not", "condition": SPA | {"operator": "like"}}, "filter.condition.operator"),
    ({"kind": "and", "conditions": []}, "filter.conditions"),
    ({"kind": "or", "conditions": [SPA, {"kind": "tag"}]}, "filter.conditions.1.tag"),
    ({"kind": "or", "conditions": [SPA, {"kind": "tag", "tag": ""}]}, "filter.conditions.1.tag"),
    ({"kind": "status", "values": ["status"]}, "filter.values.0"),
    ({"kind": "time_zone", "values": ["Mars/Base"]}, "filter.values.0"),
    ({"kind": "last_contacted"}, "filter.before"),
    ({"kind": "last_contacted", "after": 5}, "filter.after"),
    ({"kind": "not_contacted_for", "days": 0}, "filter.days"),
    ({"kind": "custom_field", "name": "n", "operator": "at_least", "values": ["many"]}, "filter.values"),
    ({"kind": "custom_field", "name": "n", "operator": "at_least", "values": ["\u0662\u0665"]}, "filter.values"),
    ({"kind": "campaign", "campaign_id": NOBODY, "contact": "opened"}, "filter.campaign_id"),
    ({"kind": "campaign", "campaign_id": "x", "contact": "opened"}, "filter.campaign_id"),
    ({"kind": "not", "condition": {"kind": "batch", "batch_id": NOBODY}}, "filter.condition.batch_id"),
]


@pytest.mark.parametrize(("filter_", "field"), WRONG)
def test_wrong_filter_is_refused_by_field(api: ApiClient, filter_: Any, field: str) -> None:
    answer = api.post("/v1/segments", {"name": "s", "filter": filter_})
    assert answer.status == 422
    assert answer.fields == [field]
    assert answer.json["errors"][0]["message"]
    assert api.get("/v1/segments").json["items"] == []


def test_filter_that_is_too_deep_or_too_large_is_refused(api: ApiClient) -> None:
    deep: dict[str, Any] = SPA
    for _ in range(7):
        deep = {"kind": "not", "condition": deep}
    assert api.post("/v1/segments", {"name": "s", "filter": deep}).fields == ["filter"]
    wide = {"kind": "or", "conditions": [{"kind": "and", "conditions": [SPA] * 30}] * 2}
    assert api.post("/v1/segments", {"name": "s", "filter": wide}).fields == ["filter"]


def test_campaign_writes_to_a_segment_which_it_then_holds(api: ApiClient, connection: sa.Connection) -> None:
    make_batch(connection, ["a@example.com", "b@example.com"])
    template = make_template(connection)
    connection.commit()
    segment_id = api.post("/v1/segments", {"name": "Spas", "filter": SPA}).json["id"]
    campaign = {"name": "To spas", "email_template_id": str(template), "segment_ids": [segment_id]}
    created = api.post("/v1/campaigns", campaign)
    assert (created.status, created.json["segment_ids"]) == (201, [segment_id])
    path = f"/v1/campaigns/{created.json['id']}"
    assert api.get(f"{path}/preflight").json["facts"]["leads"] == 2
    refused = api.delete(f"/v1/segments/{segment_id}")
    assert (refused.status, refused.json["campaigns"]) == (409, [{"id": created.json["id"], "name": "To spas"}])
    assert "To spas" in refused.json["detail"]
    assert api.post(f"{path}/start").json["emails_scheduled_count"] == 2
    assert api.patch(path, {"segment_ids": []}).status == 409
    assert api.delete(f"/v1/segments/{segment_id}").status == 409
    api.post(f"{path}/cancel")
    assert api.delete(f"/v1/segments/{segment_id}").status == 204


def test_campaign_with_an_unknown_segment_is_refused_by_field(api: ApiClient, connection: sa.Connection) -> None:
    template = make_template(connection)
    connection.commit()
    campaign = {"name": "n", "email_template_id": str(template), "segment_ids": [NOBODY]}
    refused = api.post("/v1/campaigns", campaign)
    assert (refused.status, refused.fields) == (422, ["segment_ids.0"])
    assert api.post("/v1/campaigns", campaign | {"segment_ids": NOBODY}).fields == ["segment_ids"]
