"""Lists can be sorted by what is listed, and pages stay together in each order."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
import sqlalchemy as sa

from sendledger.campaigns import lifecycle
from sendledger.exports import exports
from sendledger.leads import leads
from testbed.campaigns import DAY, NO_DELAY, make_batch, make_campaign
from tests.functions.campaign_api.api_client import ApiClient

NAMES = ["beta", "Alpha", "alpha", "gamma", "beta", "Émile"]
TEMPLATE = {"subject": "Hi", "body_text": "Hello"}


def pages(api: ApiClient, path: str, **query: object) -> list[dict[str, Any]]:
    """All items, taken two at a time."""
    found: list[dict[str, Any]] = []
    cursor: dict[str, object] = {}
    while True:
        page = api.get(path, limit=2, **query, **cursor)
        assert page.status == 200, page.body
        found += page.json["items"]
        if page.json["next_cursor"] is None:
            return found
        cursor = {"cursor": page.json["next_cursor"]}


@pytest.fixture
def created(api: ApiClient) -> list[str]:
    """The ids of templates in the order in which they were made."""
    return [api.post("/v1/email-templates", TEMPLATE | {"name": name}).json["id"] for name in NAMES]


def test_list_goes_by_time_in_both_directions(api: ApiClient, created: list[str]) -> None:
    assert [item["id"] for item in pages(api, "/v1/email-templates", sort="created_at")] == created
    assert [item["id"] for item in pages(api, "/v1/email-templates", sort="-created_at")] == created[::-1]
    assert pages(api, "/v1/email-templates") == pages(api, "/v1/email-templates", sort="-created_at")


def test_list_goes_by_name_in_both_directions(api: ApiClient, connection: sa.Connection, created: list[str]) -> None:
    by_name = sa.text("SELECT CAST(id AS text) FROM email_templates ORDER BY name, id")
    expected = connection.scalars(by_name).all()
    assert [item["id"] for item in pages(api, "/v1/email-templates", sort="name")] == expected
    assert [item["id"] for item in pages(api, "/v1/email-templates", sort="-name")] == expected[::-1]


BY_TIME = ("created_at", "-created_at")
BY_NAME = ("name", "-name")
ORDERS = {
    "/v1/campaigns": (*BY_TIME, *BY_NAME, "actual_started_at", "-actual_started_at"),
    "/v1/workflows": (*BY_TIME, *BY_NAME),
    "/v1/senders": BY_TIME,
    "/v1/sending-schedules": (*BY_TIME, *BY_NAME),
    "/v1/lead-batches": (*BY_TIME, *BY_NAME),
    "/v1/email-templates": (*BY_TIME, *BY_NAME),
    "/v1/api-keys": (*BY_TIME, *BY_NAME),
    "/v1/leads": BY_TIME,
    "/v1/replies": BY_TIME,
    "/v1/exports": BY_TIME,
    "/v1/suppressions": (*BY_TIME, "value", "-value"),
    "/v1/audit-log": ("id", "-id"),
    "/v1/scheduled-emails": ("id", "-id"),
    "/v1/scheduled-emails?status=pending": ("scheduled_for", "-scheduled_for"),
}
"""Every list and its orders, but for those of one campaign, which are the same as of all."""
EACH = [(path, sort) for path, sorts in ORDERS.items() for sort in sorts]


@pytest.fixture
def some_of_everything(api: ApiClient, engine: sa.Engine, connection: sa.Connection) -> None:
    for number in range(3):
        campaign_id = make_campaign(connection, 3, [NO_DELAY, DAY], name=f"c{number % 2}")
        if number:
            lifecycle.start_campaign(engine, campaign_id)
        api.post("/v1/email-templates", TEMPLATE | {"name": NAMES[number]})
        hours = {"name": NAMES[number], "time_zone": "Asia/Tokyo", "hours": {"mon": [["09:00", "17:00"]]}}
        api.post("/v1/sending-schedules", hours)
        api.post("/v1/senders", {"from_address": f"sender{number}@example.com"})
        api.post("/v1/api-keys", {"name": NAMES[number], "role": "viewer"})
        api.post("/v1/suppressions", {"value": f"{NAMES[number]}{number}@example.com"})
        with engine.begin() as storing:
            exports.create(storing, "leads", None, {}, "ann")
        api.post("/v1/replies", {"from_address": "ann@example.com", "text": NAMES[number]})


def split(path: str) -> tuple[str, dict[str, str]]:
    route, _, query = path.partition("?")
    return route, dict(each.split("=") for each in query.split("&") if each)


@pytest.mark.parametrize(("path", "sort"), EACH)
def test_pages_of_every_list_join_in_every_order(
    api: ApiClient, some_of_everything: None, path: str, sort: str
) -> None:
    route, query = split(path)
    found = pages(api, route, sort=sort, **query)
    whole = api.get(route, sort=sort, limit=200, **query).json["items"]
    assert len(whole) >= 3
    assert [item["id"] for item in found] == [item["id"] for item in whole]
    opposite = sort[1:] if sort.startswith("-") else f"-{sort}"
    assert [item["id"] for item in pages(api, route, sort=opposite, **query)] == [item["id"] for item in whole[::-1]]
    if sort in ("created_at", "scheduled_for", "id"):
        assert [item[sort] for item in whole] == sorted(item[sort] for item in whole)


@pytest.mark.parametrize("path", ORDERS)
def test_other_orders_of_each_list_are_refused_naming_its_own(api: ApiClient, path: str) -> None:
    route, query = split(path)
    answer = api.get(route, sort="updated_at", **query)
    assert (answer.status, answer.fields) == (422, ["sort"])
    message = answer.json["errors"][0]["message"]
    assert all(f"'{sort}'" in message for sort in ORDERS[path])


@pytest.mark.parametrize("path", ORDERS)
def test_page_has_between_1_and_200_items(api: ApiClient, path: str) -> None:
    route, query = split(path)
    for limit, status in ((0, 422), (1, 200), (200, 200), (201, 422)):
        assert api.get(route, limit=limit, **query).status == status


@pytest.mark.parametrize("path", ORDERS)
def test_cursor_of_another_list_or_order_is_refused(api: ApiClient, some_of_everything: None, path: str) -> None:
    route, query = split(path)
    first = ORDERS[path][0]
    own = api.get(route, limit=1, sort=first, **query).json["next_cursor"]
    assert api.get(route, sort=first, cursor=own, **query).status == 200
    cursors = [api.get(route, limit=1, sort=sort, **query).json["next_cursor"] for sort in ORDERS[path][1:]]
    for other, sorts in ORDERS.items():
        if split(other)[0] != route:
            cursors.append(api.get(split(other)[0], limit=1, sort=sorts[0], **split(other)[1]).json["next_cursor"])
    assert None not in cursors
    for cursor in cursors:
        answer = api.get(route, sort=first, cursor=cursor, **query)
        assert (answer.status, answer.fields) == (422, ["cursor"]), cursor


def test_rows_that_are_written_while_pages_are_turned_move_no_other(api: ApiClient, created: list[str]) -> None:
    for sort in ("-created_at", "created_at", "name", "-name"):
        page = api.get("/v1/email-templates", limit=2, sort=sort).json
        seen = [item["id"] for item in page["items"]]
        while page["next_cursor"]:
            for name in ("", "zzz"):
                api.post("/v1/email-templates", TEMPLATE | {"name": f"{name} new"})
            page = api.get("/v1/email-templates", limit=4, sort=sort, cursor=page["next_cursor"]).json
            seen += [item["id"] for item in page["items"]]
            if set(created) <= set(seen):
                break
        assert len(seen) == len(set(seen))
        assert set(created) <= set(seen)


def test_row_whose_page_ends_with_it_may_be_deleted(api: ApiClient, created: list[str]) -> None:
    page = api.get("/v1/email-templates", limit=2, sort="created_at").json
    api.delete(f"/v1/email-templates/{created[1]}")
    rest = api.get("/v1/email-templates", sort="created_at", cursor=page["next_cursor"]).json["items"]
    assert [item["id"] for item in rest] == created[2:]


def test_longest_name_fits_into_a_cursor(api: ApiClient) -> None:
    for _ in range(3):
        assert api.post("/v1/email-templates", TEMPLATE | {"name": "\N{GRINNING FACE}" * 255}).status == 201
    assert len(pages(api, "/v1/email-templates", sort="name")) == 3


@pytest.mark.parametrize("text", ["\0", "\ud800"])
def test_cursor_with_unstorable_characters_is_refused(api: ApiClient, text: str) -> None:
    key = json.dumps(["email_templates", "name", text, "123e4567-e89b-12d3-a456-426614174000"])
    answer = api.get("/v1/email-templates", sort="name", cursor=base64.urlsafe_b64encode(key.encode()).decode())
    assert (answer.status, answer.fields) == (422, ["cursor"])


def test_campaigns_that_have_not_started_are_older_than_all_others(api: ApiClient, some_of_everything: None) -> None:
    started = [item["actual_started_at"] for item in pages(api, "/v1/campaigns", sort="-actual_started_at")]
    assert started[-1] is None
    assert started[:-1] == sorted(filter(None, started), reverse=True)


def test_pending_emails_are_listed_by_when_they_are_due(api: ApiClient, some_of_everything: None) -> None:
    due = [item["scheduled_for"] for item in pages(api, "/v1/scheduled-emails", status="pending")]
    assert (len(due), due) == (12, sorted(due))
    for query in ({"status": "pending", "sort": "id"}, {"status": "sent", "sort": "scheduled_for"}):
        answer = api.get("/v1/scheduled-emails", **query)
        assert (answer.status, answer.fields) == (422, ["sort"])
        assert "scheduled_for" in answer.json["errors"][0]["message"]


@pytest.mark.parametrize("sort", ["id", "subject", "created_at,name", "-", "", "name; DROP TABLE leads"])
def test_other_orders_are_refused(api: ApiClient, sort: str) -> None:
    answer = api.get("/v1/email-templates", sort=sort)
    assert (answer.status, answer.fields) == (422, ["sort"])


def test_cursor_of_names_does_not_fit_times(api: ApiClient, created: list[str]) -> None:
    cursor = api.get("/v1/email-templates", limit=1, sort="name").json["next_cursor"]
    answer = api.get("/v1/email-templates", cursor=cursor)
    assert (answer.status, answer.fields) == (422, ["cursor"])


def test_leads_cannot_be_sorted_by_name(api: ApiClient) -> None:
    assert api.get("/v1/leads", sort="name").status == 422


@pytest.mark.parametrize("sort", ["created_at", "-created_at"])
def test_leads_are_read_by_their_index_in_both_directions(api: ApiClient, connection: sa.Connection, sort: str) -> None:
    make_batch(connection, [f"lead{number}@example.com" for number in range(2000)])
    connection.execute(sa.text("ANALYZE leads"))
    page = leads.list_page(connection, 10, None, sort=sort)
    statements: list[str] = []
    values: list[Any] = []

    @sa.event.listens_for(connection, "before_cursor_execute")
    def _keep(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        statements.append(statement)
        values.append(parameters)

    leads.list_page(connection, 10, page.next_cursor, sort=sort)
    plan = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statements[0]}", values[0]).scalar_one()
    top = (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]
    assert top["Node Type"] == "Limit"
    assert top["Plans"][0].get("Index Name") == "leads_newest_idx"
