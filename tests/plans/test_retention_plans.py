"""A chunk of a removal reads the rows of its campaign by indexes, however large the ledger is and whatever the planner
knows about it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from local.postgres import Postgres
from sendledger.core import database
from sendledger.core.settings import DatabaseSettings
from sendledger.retention import archive, due_campaigns, remove_rows, run
from testbed.campaigns import make_campaign
from testbed.databases import OWNER, admin

LARGE = {"scheduled_emails", "emails", "email_events", "replies", "unsubscribes", "leads", "past_contacts"}
_ROWS = """
    INSERT INTO campaign_steps (campaign_id, step_number, delay, subject, body_text)
        VALUES (:id, 1, interval '0', 's', 'b');
    INSERT INTO scheduled_emails (campaign_id, lead_id, workflow_step_number, scheduled_for, status, sent_at, email_id)
        SELECT :id, id, 1, now(), 'sent', now(), gen_random_uuid() FROM leads;
    INSERT INTO emails (id, lead_id, campaign_id, subject, body_text, sent_at, scheduled_email_id)
        SELECT email_id, lead_id, campaign_id, 's', 'b', now(), id FROM scheduled_emails WHERE campaign_id = :id;
    INSERT INTO email_events (event_key, scheduled_email_id, email_id, campaign_id, lead_id, ses_message_id, event_type,
                              occurred_at)
        SELECT 'd' || id, id, email_id, campaign_id, lead_id, 'm' || id, 'Delivery', now() FROM scheduled_emails
        WHERE campaign_id = :id;
    UPDATE campaigns SET status = 'completed', completed_at = now() - interval '100 days' WHERE id = :id
"""


@pytest.fixture(scope="module", params=["stale", "fresh"])
def engine(request: pytest.FixtureRequest, postgres: Postgres, template_database: str) -> Iterator[sa.Engine]:
    """A database with 40 ended campaigns of 1,000 leads. `stale`: the planner believes that it is almost empty."""
    name = f"retention_plans_{request.param}"
    with admin(postgres) as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name} TEMPLATE {template_database}"))
    created = database.engine(DatabaseSettings.read({"DATABASE_URL": postgres.url(name)}))
    with created.connect() as connection:
        for table in sorted(LARGE):
            connection.execute(sa.text(f"ALTER TABLE {table} SET (autovacuum_enabled = off)"))
        connection.execute(sa.text("ANALYZE"))
        make_campaign(connection, 1_000)
    with created.connect() as connection:
        for _ in range(40):
            campaign_id = make_campaign(connection, 0)
            for statement in _ROWS.split(";"):
                connection.execute(sa.text(statement.replace(":id", f"'{campaign_id}'")))
            connection.commit()
        if request.param == "fresh":
            connection.execute(sa.text("ANALYZE"))
            connection.commit()
    yield created
    created.dispose()


def explain(connection: sa.Connection, statement: sa.TextClause, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """The nodes of the plan."""
    explained = sa.text(f"EXPLAIN (FORMAT JSON) {statement.text}").bindparams(*statement._bindparams.values())
    plan: Any = connection.execute(explained, parameters).scalar_one()
    return nodes((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"])


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", ()) for node in nodes(child))]


def test_no_statement_of_a_removal_scans_a_large_table(connection: sa.Connection) -> None:
    campaign_id: uuid.UUID = connection.execute(
        sa.text("SELECT campaign_id FROM scheduled_emails ORDER BY id DESC LIMIT 1")
    ).scalar_one()
    ids = list(
        connection.scalars(
            sa.text("SELECT id FROM scheduled_emails WHERE campaign_id = :id ORDER BY id LIMIT 100").bindparams(
                sa.bindparam("id", campaign_id, sa.UUID)
            )
        )
    )
    email_ids = list(
        connection.scalars(sa.text(f"SELECT email_id FROM scheduled_emails WHERE id >= {ids[0]} LIMIT 100"))
    )
    connection.execute(sa.text(f"SET LOCAL ROLE {OWNER}_retention"))
    of_campaign: dict[str, Any] = {"campaign_id": campaign_id}
    chunk = of_campaign | {"limit": 100}
    kind = {"kind": "ledger", "days": 90}
    statements: list[tuple[sa.TextClause, dict[str, Any]]] = [
        (due_campaigns._NEXT, kind | {"passed": []}),
        (due_campaigns._IS_DUE, kind | of_campaign),
        (due_campaigns._WAITING, kind),
        (remove_rows._NEXT_ROWS, chunk | {"after_id": ids[0]}),
        (remove_rows._NEXT_EMAILS, chunk),
        (remove_rows._BLANK_SENT, chunk),
        (remove_rows._BLANK_UNSENT, chunk),
        (remove_rows._FORGET_OF_ROWS, {"ids": ids}),
        (remove_rows._FORGET_OF_EMAILS, {"ids": email_ids}),
        (remove_rows._EMAILS_WITHOUT_ROW, chunk),
        (remove_rows._REMEMBER_ROWS, of_campaign | {"ids": ids}),
        (remove_rows._FOLD, {"ids": ids}),
        (remove_rows._KEEP_COUNTS, {"ids": ids}),
        (remove_rows._DELETE_ROWS, {"ids": ids}),
        (remove_rows._DELETE_EMAILS, {"ids": email_ids}),
        (run._BLANK_REPLIES, {"days": 30, "limit": 2000}),
        (archive._NEXT_EMAILS, chunk | {"after": uuid.UUID(int=0)}),
    ]
    by_row, by_email = (
        sa.bindparam("ids", ids, sa.ARRAY(sa.BigInteger)),
        sa.bindparam("ids", email_ids, sa.ARRAY(sa.UUID)),
    )
    size = {"most": archive.BYTES_PER_PART}
    first_row, first_email = sa.bindparam("first", ids[0], sa.BigInteger), sa.bindparam("first", email_ids[0], sa.UUID)
    statements += [
        *((sa.text(each).bindparams(by_row), {}) for each in archive._OF_ROWS.values()),
        *((sa.text(each).bindparams(by_email), {}) for each in archive._OF_EMAILS.values()),
        (sa.text(archive._FITTING_ROWS).bindparams(by_row, first_row), size),
        (sa.text(archive._FITTING_EMAILS).bindparams(by_email, first_email), size),
    ]
    for statement, parameters in statements:
        for node in explain(connection, statement, parameters):
            is_scan = node["Node Type"] == "Seq Scan" and node["Relation Name"] in LARGE
            # There are no replies here: a table without a page is read.
            assert not is_scan or node["Relation Name"] in ("replies", "unsubscribes", "past_contacts"), (
                statement.text,
                node,
            )
