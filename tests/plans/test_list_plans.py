"""What the API shows of the ledger is read by indexes, however large it is and whatever the planner knows of it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from local.postgres import Postgres
from sendledger.campaigns import campaign_counts, campaigns, left_out_leads
from sendledger.core import audit_log, database
from sendledger.core.pagination import Page
from sendledger.core.settings import DatabaseSettings
from sendledger.core.vocabulary import ScheduledEmailStatus
from sendledger.ledger import scheduled_emails
from sendledger.preflight import diagnose
from testbed.campaigns import make_campaign
from testbed.databases import OWNER, admin

HISTORY = 120_000
YOUNG = 30_000
FEW = 40
"""Rows of each status of the young campaign that are not pending."""
GROWN_AT_ONCE = ("scheduled_emails", "emails", "left_out_leads")
LARGE = (*GROWN_AT_ONCE, "audit_log")
MOST_ROWS = 2_000
MOST_OF_ONE = 60
"""Entries of the audit log of one thing; so few are sorted."""

Read = Callable[[sa.Connection], object]


@pytest.fixture(scope="module", params=["stale", "fresh"])
def engine(request: pytest.FixtureRequest, postgres: Postgres, template_database: str) -> Iterator[sa.Engine]:
    """An old campaign with all of the history and a young one that has begun. `stale`: as if the tables were empty."""
    with admin(postgres) as connection:
        connection.execute(sa.text(f"CREATE DATABASE lists_{request.param} TEMPLATE {template_database}"))
    url = postgres.url(f"lists_{request.param}")
    created = database.engine(DatabaseSettings.read({"DATABASE_URL": url}))
    with created.connect() as connection:
        for table in GROWN_AT_ONCE:
            connection.execute(sa.text(f"ALTER TABLE {table} SET (autovacuum_enabled = off)"))
            connection.execute(sa.text(f"ANALYZE {table}"))
        old, young = (make_campaign(connection, 500, name=name) for name in ("old", "young"))
        _write(connection, old, "sent", HISTORY)
        for status in ScheduledEmailStatus:
            if status != "pending":
                _write(connection, young, status, FEW)
        _write(connection, young, "pending", YOUNG)
        connection.execute(
            sa.text("""
                INSERT INTO left_out_leads (campaign_id, reason)
                SELECT :id, (ARRAY['no_address', 'suppressed'])[1 + mod(n, 2)] FROM generate_series(1, 30000) n
            """).bindparams(sa.bindparam("id", type_=sa.UUID)),
            {"id": old},
        )
        connection.execute(
            sa.text("""
                INSERT INTO audit_log (actor, action, entity_type, entity_id)
                SELECT CASE WHEN n <= 6000 THEN 'gone' WHEN mod(n, 1000) = 0 THEN 'ann' ELSE 'recipient' END,
                       'suppression.create', 'suppression', CAST(mod(n, 500) AS text)
                FROM generate_series(1, 30000) n
            """)
        )
        connection.execute(sa.text("ANALYZE audit_log"))
        connection.execute(sa.text("UPDATE campaigns SET status = 'completed' WHERE name = 'old'"))
        connection.execute(
            sa.text("UPDATE campaigns SET status = 'running', actual_started_at = now() WHERE name = 'young'")
        )
        campaign_counts.fold(connection)
        connection.commit()
        if request.param == "fresh":
            connection.execute(sa.text("ANALYZE"))
            connection.commit()
    yield created
    created.dispose()


def _write(connection: sa.Connection, campaign_id: uuid.UUID, status: str, count: int) -> None:
    """Rows of one status, and the emails of those that were sent; of the first leads twice as many as of the others."""
    connection.execute(
        sa.text("""
            INSERT INTO campaign_steps (campaign_id, step_number, delay, subject, body_text)
            SELECT :id, n, interval '0', 's', 'b' FROM generate_series(1, :steps) n ON CONFLICT DO NOTHING
        """).bindparams(sa.bindparam("id", type_=sa.UUID)),
        {"id": campaign_id, "steps": HISTORY // 500 + 1},
    )
    connection.execute(
        sa.text("""
            WITH own AS (
                SELECT id, row_number() OVER (ORDER BY id) - 1 AS place FROM leads
                WHERE batch_id = (SELECT batch_ids[1] FROM campaigns WHERE id = :id)
            ), written AS (
                INSERT INTO scheduled_emails (campaign_id, lead_id, workflow_step_number, scheduled_for, status, reason,
                                              error_code, sent_at, failed_at, claim_token, lease_until)
                SELECT :id, CASE WHEN CAST(:count AS integer) > 1000 THEN own.id END, 1 + n / 500,
                       now() + n * interval '1 second', :status,
                       CASE WHEN :status IN ('skipped', 'cancelled') THEN 'suppressed' END,
                       CASE WHEN :status = 'failed' THEN 'bad_request' END, CASE WHEN :status = 'sent' THEN now() END,
                       CASE WHEN :status = 'failed' THEN now() END,
                       CASE WHEN :status = 'sending' THEN gen_random_uuid() END,
                       CASE WHEN :status = 'sending' THEN now() END
                FROM generate_series(0, :count - 1) n JOIN own ON own.place = mod(n, 500)
                RETURNING id, lead_id, status
            )
            INSERT INTO emails (lead_id, campaign_id, subject, body_text, scheduled_email_id, sent_at, delivered_at)
            SELECT lead_id, :id, 's', 'b', id, now(), now() FROM written WHERE status = 'sent' AND lead_id IS NOT NULL
        """).bindparams(sa.bindparam("id", type_=sa.UUID), sa.bindparam("status", type_=sa.Text)),
        {"id": campaign_id, "status": status, "count": count},
    )


def named(connection: sa.Connection, name: str | None) -> uuid.UUID | None:
    found: uuid.UUID | None = connection.scalar(sa.text("SELECT id FROM campaigns WHERE name = :name"), {"name": name})
    return found


def rows_read(connection: sa.Connection, read: Read, limit: int = MOST_ROWS) -> int:
    """Most rows of a large table that one scan of any statement has looked at, as the user of the API.

    Fails at a scan of a whole table.
    """
    statements: list[tuple[str, Any]] = []

    def keep(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        statements.append((statement, parameters))

    connection.execute(sa.text(f"SET LOCAL ROLE {OWNER}_api"))
    sa.event.listen(connection, "before_cursor_execute", keep)
    read(connection)
    sa.event.remove(connection, "before_cursor_execute", keep)
    most = 0
    for statement, parameters in statements:
        plan: Any = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters).scalar_one()
        for node in _nodes((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]):
            if node.get("Relation Name") in LARGE:
                assert node["Node Type"] != "Seq Scan", f"reads the table: {statement}\n{node}"
                removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
                looked_at = round((node["Actual Rows"] + removed) * node["Actual Loops"])
                assert looked_at <= limit, f"reads {looked_at} rows: {statement}\n{node}"
                most = max(most, looked_at)
    return most


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", ()) for node in _nodes(child))]


@pytest.mark.parametrize("direction", ["", "-"])
@pytest.mark.parametrize("status", [None, *ScheduledEmailStatus])
@pytest.mark.parametrize("campaign", ["old", "young", None])
def test_pages_of_the_ledger_read_little_more_than_they_show(
    connection: sa.Connection, campaign: str | None, status: str | None, direction: str
) -> None:
    sort = direction + ("scheduled_for" if status == "pending" else "id")
    pages: list[Page] = []
    campaign_id = named(connection, campaign)

    def read(cursor: str | None) -> Read:
        def list_page(connection: sa.Connection) -> None:
            page = scheduled_emails.list_page(connection, 20, cursor, campaign_id=campaign_id, status=status, sort=sort)
            pages.append(page)

        return list_page

    rows_read(connection, read(None))
    rows_read(connection, read(pages[0].next_cursor))
    nothing = campaign == "old" and status not in (None, "sent")
    assert [len(page.items) for page in pages] == ([0, 0] if nothing else [20, 20])
    shown = [item["id"] for page in pages for item in page.items]
    assert nothing or len(set(shown)) == 40


def test_pages_of_one_lead_read_its_rows_only(connection: sa.Connection) -> None:
    lead_id = connection.scalar(sa.text("SELECT lead_id FROM scheduled_emails WHERE id = 1000"))
    found: list[int] = []

    def read(connection: sa.Connection) -> None:
        found.extend(
            len(scheduled_emails.list_page(connection, 200, None, lead_id=lead_id, status=status).items)
            for status in (None, "sent", "skipped")
        )

    assert rows_read(connection, read) == HISTORY // 500
    assert found[1:] == [200, 0]


def test_pages_by_error_read_failed_rows_only(connection: sa.Connection) -> None:
    for campaign in ("old", "young", None):
        campaign_id = named(connection, campaign)
        for code in ("bad_request", "outcome_unknown"):
            found: list[int] = []

            def read(
                connection: sa.Connection,
                campaign_id: uuid.UUID | None = campaign_id,
                code: str = code,
                found: list[int] = found,
            ) -> None:
                page = scheduled_emails.list_page(connection, 50, None, campaign_id=campaign_id, error_code=code)
                found.append(len(page.items))

            rows_read(connection, read)
            assert found == [min(50, FEW) if code == "bad_request" and campaign != "old" else 0]


def test_pages_by_reason_read_what_they_show(connection: sa.Connection) -> None:
    for campaign in ("old", "young", None):
        campaign_id = named(connection, campaign)
        for reason in ("suppressed", "late"):
            found: list[int] = []

            def read(
                connection: sa.Connection,
                campaign_id: uuid.UUID | None = campaign_id,
                reason: str = reason,
                found: list[int] = found,
            ) -> None:
                page = scheduled_emails.list_page(connection, 20, None, campaign_id=campaign_id, reason=reason)
                found.append(len(page.items))

            assert rows_read(connection, read) <= 2 * FEW
            assert found == [20 if reason == "suppressed" and campaign != "old" else 0]


def test_pages_of_left_out_leads_read_what_they_show(connection: sa.Connection) -> None:
    campaign_id = named(connection, "old")
    assert campaign_id is not None
    for reason, count in ((None, 20), ("suppressed", 20), ("lead_invalid", 0)):
        found: list[int] = []

        def read(connection: sa.Connection, reason: str | None = reason, found: list[int] = found) -> None:
            found.append(len(left_out_leads.list_page(connection, campaign_id, 20, None, reason=reason).items))

        assert rows_read(connection, read) <= 21
        assert found == [count]


@pytest.mark.parametrize("direction", ["", "-"])
@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ({"actor": "ann"}, 24),
        ({"actor": "gone"}, 6_000),
        ({"actor": "recipient"}, 23_976),
        ({"actor": "nobody"}, 0),
        ({"entity_id": "7"}, 60),
        ({"actor": "recipient", "entity_type": "suppression", "entity_id": "8"}, 48),
        ({"actor": "ann", "action": "campaign.start"}, 0),
    ],
)
def test_the_audit_log_of_somebody_or_something_is_read_alone(
    connection: sa.Connection, filters: dict[str, str], count: int, direction: str
) -> None:
    ids: list[int] = []

    def read(cursor: str | None) -> Read:
        def list_page(connection: sa.Connection) -> str | None:
            page = audit_log.list_page(connection, 20, cursor, **filters, sort=f"{direction}id")
            ids.extend(row["id"] for row in page.items)
            return page.next_cursor

        return list_page

    following = audit_log.list_page(connection, 20, None, **filters, sort=f"{direction}id").next_cursor
    assert rows_read(connection, read(None)) <= MOST_OF_ONE
    if following is not None:
        assert rows_read(connection, read(following)) <= MOST_OF_ONE
    assert len(set(ids)) == min(count, 40)
    assert ids == sorted(ids, reverse=bool(direction))


@pytest.mark.parametrize("campaign", ["old", "young"])
def test_counts_do_not_read_the_ledger(connection: sa.Connection, campaign: str) -> None:
    campaign_id = named(connection, campaign)
    assert campaign_id is not None

    def read(connection: sa.Connection) -> None:
        stats = campaign_counts.campaign_stats(connection, campaigns.get_campaign(connection, campaign_id))
        assert stats["by_status"]["sent"] == (HISTORY if campaign == "old" else FEW)
        campaign_counts.timeline(connection, campaign_id, "hour", None, None)
        campaign_counts.timeline(connection, campaign_id, "day", None, None)
        campaign_counts.overview(connection)
        campaigns.list_page(connection, 50, None)

    assert rows_read(connection, read) <= 10


@pytest.mark.parametrize("campaign", ["old", "young"])
def test_diagnosis_counts_up_to_its_limit(
    connection: sa.Connection, campaign: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnose, "MAX_COUNTED", 500)
    campaign_id = named(connection, campaign)
    assert campaign_id is not None
    connection.execute(sa.text("UPDATE campaigns SET status = 'running'"))
    connection.execute(sa.text("UPDATE sender_state SET last_tick_at = now(), stop_code = NULL"))
    causes: list[str | None] = []
    rows_read(
        connection,
        lambda connection: causes.append(diagnose.diagnose(connection, campaign_id, None).cause),
        # Without statistics it sorts the rows of the campaign; of no other.
        HISTORY if "stale" in str(connection.engine.url) else MOST_ROWS,
    )
    connection.rollback()
    assert causes == ["nothing_left" if campaign == "old" else None]
