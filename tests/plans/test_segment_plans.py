"""A segment looks at each lead once, and at other tables by the index of that lead, whatever the planner believes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from local.postgres import Postgres
from sendledger.core import database
from sendledger.core.settings import DatabaseSettings
from sendledger.core.tables import leads as leads_table
from sendledger.leads import leads
from sendledger.segments.conditions import KINDS as ALL_KINDS
from sendledger.segments.conditions import of_json
from sendledger.segments.matching_leads import matching
from testbed.campaigns import make_campaign
from testbed.databases import admin

LEADS = 5_000
ROWS_OF_A_LEAD = 2
GROWN = ("leads", "scheduled_emails", "emails", "replies")


@pytest.fixture(scope="module", params=["stale", "fresh"])
def engine(request: pytest.FixtureRequest, postgres: Postgres, template_database: str) -> Iterator[sa.Engine]:
    """Two campaigns have written to all leads. `stale`: as if the tables were empty."""
    name = f"segments_{request.param}"
    with admin(postgres) as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name} TEMPLATE {template_database}"))
    created = database.engine(DatabaseSettings.read({"DATABASE_URL": postgres.url(name)}))
    with created.connect() as connection:
        for table in GROWN:
            connection.execute(sa.text(f"ALTER TABLE {table} SET (autovacuum_enabled = off)"))
            connection.execute(sa.text(f"ANALYZE {table}"))
        connection.execute(
            sa.text("""
                INSERT INTO leads (email, company_name, industry, source, country, tags, custom_fields)
                SELECT 'l' || n || '@example.com', 'c' || n, 'spa', 'test', 'Germany', ARRAY['t' || mod(n, 9)],
                       jsonb_build_object('seats', mod(n, 50)) FROM generate_series(1, :count) n
            """),
            {"count": LEADS},
        )
        for _ in range(ROWS_OF_A_LEAD):
            _write_to_all(connection, make_campaign(connection, 0, email_template_id=None))
        if request.param == "fresh":
            connection.execute(sa.text("ANALYZE"))
        connection.commit()
    yield created
    created.dispose()


def _write_to_all(connection: sa.Connection, campaign_id: Any) -> None:
    for statement in (
        """INSERT INTO campaign_steps (campaign_id, step_number, delay, subject, body_text)
           VALUES (:id, 1, interval '0', 's', 'b')""",
        """INSERT INTO scheduled_emails (campaign_id, lead_id, workflow_step_number, scheduled_for, status, sent_at)
           SELECT :id, id, 1, now(), 'sent', now() FROM leads""",
        """INSERT INTO emails (lead_id, campaign_id, subject, body_text, opened_at, clicked_at)
           SELECT id, :id, 's', 'b', now(), CASE WHEN email LIKE '%7@%' THEN now() END FROM leads""",
        """INSERT INTO replies (message_id, source, from_address, subject, body_text, lead_id, campaign_id, matched_by)
           SELECT gen_random_uuid(), 'api', 'x', 's', 'b', id, :id, 'token' FROM leads WHERE email LIKE '%7@%'""",
    ):
        connection.execute(sa.text(statement).bindparams(sa.bindparam("id", type_=sa.UUID)), {"id": campaign_id})


def conditions(campaign_id: str) -> dict[str, tuple[dict[str, Any], int]]:
    """A condition of each kind, and how many leads it matches."""
    kinds: dict[str, tuple[dict[str, Any], int]] = {
        "field": ({"kind": "field", "field": "email", "operator": "contains", "values": ["7@"]}, LEADS // 10),
        "custom_field": ({"kind": "custom_field", "name": "seats", "operator": "at_least", "values": [25]}, LEADS // 2),
        "tag": ({"kind": "tag", "tag": "none"}, 0),
        "status": ({"kind": "status", "values": ["new"]}, LEADS),
        "batch": ({"kind": "batch", "batch_id": campaign_id}, 0),
        "time_zone": ({"kind": "time_zone", "values": ["Europe/Berlin"]}, LEADS),
        "last_contacted": ({"kind": "last_contacted", "after": "2020-01-01T00:00:00Z"}, 0),
        "not_contacted_for": ({"kind": "not_contacted_for", "days": 1}, LEADS),
    }
    for contact, count in {"received": LEADS, "opened": LEADS, "clicked": LEADS // 10, "replied": LEADS // 10}.items():
        kinds[contact] = ({"kind": "campaign", "campaign_id": campaign_id, "contact": contact}, count)
    received, clicked = kinds["received"][0], kinds["clicked"][0]
    kinds["and"] = ({"kind": "and", "conditions": [received, clicked]}, LEADS // 10)
    kinds["or"] = ({"kind": "or", "conditions": [clicked, received]}, LEADS)
    kinds["not"] = ({"kind": "not", "condition": clicked}, LEADS - LEADS // 10)
    kinds["nested"] = (
        {"kind": "and", "conditions": [kinds["not"][0], kinds["or"][0], kinds["custom_field"][0]]},
        LEADS * 11 // 25,
    )
    return kinds


def looked_at(connection: sa.Connection, run: Callable[[], object]) -> Counter[str]:
    """Rows of each table that the plans of what runs have looked at."""
    found: Counter[str] = Counter()
    waiting = [explained[0]["Plan"] for explained in _explain(connection, run)]
    while waiting:
        node = waiting.pop()
        waiting += node.get("Plans", [])
        if table := node.get("Relation Name"):
            removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
            found[table] += round((node["Actual Rows"] + removed) * node["Actual Loops"])
    return found


def _explain(connection: sa.Connection, run: Callable[[], object]) -> list[Any]:
    statements: list[tuple[str, Any]] = []

    def keep(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        statements.append((statement, parameters))

    sa.event.listen(connection, "before_cursor_execute", keep)
    run()
    sa.event.remove(connection, "before_cursor_execute", keep)
    plans = [
        connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters).scalar_one()
        for statement, parameters in statements
    ]
    return [json.loads(plan) if isinstance(plan, str) else plan for plan in plans]


KINDS = sorted(conditions(""))


def test_each_kind_of_condition_is_looked_at() -> None:
    assert {filter_["kind"] for filter_, _ in conditions("").values()} == ALL_KINDS.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_counting_looks_at_each_lead_once(connection: sa.Connection, kind: str) -> None:
    campaign_id = connection.scalar(sa.text("SELECT id FROM campaigns ORDER BY id LIMIT 1"))
    filter_, count = conditions(str(campaign_id))[kind]
    query = sa.select(sa.func.count()).select_from(leads_table).where(matching(of_json(filter_)))
    assert connection.scalar(query) == count
    assert leads.count_first(connection, matching(of_json(filter_)), "-created_at", LEADS + 1) == (count, True)
    found = looked_at(connection, lambda: connection.execute(query))
    assert found.pop("leads", 0) <= LEADS
    assert all(rows < LEADS * (ROWS_OF_A_LEAD + 1) for rows in found.values()), found


@pytest.mark.parametrize("kind", KINDS)
def test_first_page_looks_at_each_lead_at_most_once(connection: sa.Connection, kind: str) -> None:
    campaign_id = connection.scalar(sa.text("SELECT id FROM campaigns ORDER BY id LIMIT 1"))
    filter_, count = conditions(str(campaign_id))[kind]
    condition = matching(of_json(filter_))
    assert len(leads.list_page(connection, 20, None, condition=condition).items) == min(count, 20)
    found = looked_at(connection, lambda: leads.list_page(connection, 20, None, condition=condition))
    assert found.pop("leads", 0) <= LEADS
    assert all(rows < LEADS * (ROWS_OF_A_LEAD + 1) for rows in found.values()), found


@pytest.mark.parametrize("engine", ["fresh"], indirect=True)
@pytest.mark.parametrize("filters", [{"search": "nobody"}, {"status": "converted"}], ids=str)
def test_page_that_nobody_fits_looks_at_so_many_leads(connection: sa.Connection, filters: dict[str, Any]) -> None:
    found = looked_at(connection, lambda: leads.list_page(connection, 20, None, scan_limit=500, **filters))
    # Once to find the last of them.
    assert 500 <= found["leads"] <= 2 * 500


@pytest.mark.parametrize("engine", ["fresh"], indirect=True)
def test_full_page_looks_at_its_leads_only(connection: sa.Connection) -> None:
    found = looked_at(connection, lambda: leads.list_page(connection, 20, None, scan_limit=500, status="new"))
    assert found["leads"] <= 3 * 21
