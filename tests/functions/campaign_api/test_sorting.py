"""Lists can be sorted by what is listed, and pages stay together in each order."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sqlalchemy as sa

from sendledger import leads
from tests.campaigns import make_batch
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


@pytest.mark.parametrize("path", ["/v1/campaigns", "/v1/workflows", "/v1/lead-batches", "/v1/email-templates"])
@pytest.mark.parametrize("sort", ["created_at", "-created_at", "name", "-name"])
def test_every_order_is_possible(api: ApiClient, path: str, sort: str) -> None:
    assert api.get(path, sort=sort).status == 200


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
