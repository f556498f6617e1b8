"""A LeadNexConnect database of a few thousand rows is upgraded, adopted, sent from for days, and taken back.

Its campaigns are in every state, among them the reported one: three steps, completed after four emails.
"""

from __future__ import annotations

import re
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
import sqlalchemy as sa

from local.postgres import Postgres
from local.ses_simulator import SesSimulator
from local.stack import FunctionError, LocalStack
from sendledger.core.tables import scheduled_emails
from testbed.campaigns import DAY, campaign_row, pass_time, statuses
from testbed.legacy_database import (
    SCHEMA,
    THREE_STEPS,
    OldApplication,
    downgrade,
    legacy_engine,
    old_application,
    old_rows,
)
from tests.acceptance.conftest import TEMPLATE

ROWS = {"leads": 1500, "emails": 1500, "campaign_leads": 800, "campaigns": 120, "workflows": 10, "workflow_steps": 30}
ROWS_OF_OTHER_TABLES = 60
NULL_EVERY = 7
"""In every column that may be NULL."""

PARENTS = {
    ("leads", "batch_id"): "lead_batches",
    ("campaigns", "batch_id"): "lead_batches",
    ("campaigns", "email_template_id"): "email_templates",
    ("campaigns", "workflow_id"): "workflows",
    ("workflow_steps", "workflow_id"): "workflows",
    ("campaign_leads", "campaign_id"): "campaigns",
    ("campaign_leads", "lead_id"): "leads",
    ("emails", "campaign_id"): "campaigns",
    ("emails", "lead_id"): "leads",
    ("lead_source_roi", "lead_id"): "leads",
}
ORPHANS = {("leads", "batch_id"), ("campaigns", "batch_id"), ("campaigns", "email_template_id")}
"""No foreign key keeps these right: some point to nothing."""

VALUES = {
    ("leads", "email"): "'lead' || n % 1400 || CASE WHEN n % 50 = 0 THEN '' ELSE '@example.com' END",
    ("leads", "company_size"): "'10-' || n",
    ("leads", "custom_fields"): """jsonb_build_object('nickname', 'N' || n)""",
    ("workflow_steps", "step_number"): "1 + (n - 1) / 10",
    ("workflow_steps", "subject"): "'Step for {{companyName}} no ' || n",
    (
        "workflow_steps",
        "body",
    ): "'Dear {{contactName}}, ' || CASE WHEN n = 5 THEN '{{lostWord}}' ELSE '{{nickname}}' END",
    ("email_templates", "body_text"): "'Dear {{ first_name }} of {{company_name}}'",
    ("email_templates", "subject"): "'Template {{companyName}} no ' || n",
    ("email_templates", "body_html"): "'<p>Dear {{contactName}}</p>'",
    ("email_templates", "industry"): "NULL",
    ("email_templates", "is_active"): "n % 3 > 0",
    ("email_templates", "follow_up_stage"): "(ARRAY['initial', 'follow_up_1', 'follow_up_2', NULL])[1 + n % 4]",
    ("emails", "follow_up_stage"): "(ARRAY['initial', 'follow_up_1', 'follow_up_2', NULL, 'odd'])[1 + n / 3 % 5]",
    ("emails", "subject"): "'Old email ' || n",
    ("campaigns", "campaign_type"): "(ARRAY['automated', 'manual', NULL])[1 + n % 3]",
    ("campaigns", "end_date"): "timestamp '2099-01-01'",
}


@pytest.fixture
def legacy(postgres: Postgres) -> Iterator[sa.Engine]:
    with legacy_engine(postgres) as engine:
        yield engine


@pytest.fixture
def stack(legacy: sa.Engine, ses: SesSimulator, tmp_path: Path) -> Iterator[LocalStack]:
    """A day passes between two ticks here, which is no outage."""
    url = legacy.url.render_as_string(hide_password=False)
    with (
        (tmp_path / "functions.log").open("ab") as log,
        LocalStack(
            TEMPLATE, database_url=url, ses_url=ses.url, log=log, variables={"LATE_AFTER_MINUTES": "14400"}
        ) as running,
    ):
        running.invoke("MigrateFunction", {"action": "create_roles", "admin_user": "postgres", "admin_password": "-"})
        yield running


def fill(connection: sa.Connection) -> None:
    """Rows in every table, with every label of every enum and NULL wherever it is allowed."""
    first = ["lead_batches", "leads", "email_templates", "workflows", "workflow_steps", "campaigns"]
    for table in [*first, *(table for table in SCHEMA["tables"] if table not in first)]:
        columns = [column for column in SCHEMA["tables"][table] if column["name"] != "id"]
        values = ", ".join(f"{_value(table, column)} AS {column['name']}" for column in columns)
        names = ", ".join(column["name"] for column in columns)
        connection.exec_driver_sql(
            f"INSERT INTO {table} ({names}) SELECT {values} "
            f"FROM generate_series(1, {ROWS.get(table, ROWS_OF_OTHER_TABLES)}) n"
        )


def _value(table: str, column: dict[str, Any]) -> str:
    name, type_ = column["name"], column["type"]
    if parent := PARENTS.get((table, name)):
        value = f"(SELECT (array_agg(id ORDER BY created_at, id))[1 + n * 7 % count(*)] FROM {parent})"
        if (table, name) in ORPHANS:
            value = f"CASE WHEN n % 11 = 0 THEN gen_random_uuid() ELSE {value} END"
    else:
        value = VALUES.get((table, name)) or _value_of_type(name, type_)
    # Not the same rows in every column.
    offset = crc32(name.encode()) % NULL_EVERY
    return f"CASE WHEN n % {NULL_EVERY} = {offset} THEN NULL ELSE {value} END" if column["nullable"] else value


def _value_of_type(name: str, type_: str) -> str:
    if labels := SCHEMA["enums"].get(type_):
        return f"(ARRAY[{', '.join(repr(label) for label in labels)}])[1 + n % {len(labels)}]::{type_}"
    kind = re.sub(r"\(.*?\)", "", type_)
    return {
        "varchar": f"left(n || ' {name}', 10)",
        "text": f"'{name} ü {{{{x}}}} ' || n",
        "integer": "n % 9",
        "boolean": "n % 2 = 0",
        "numeric": "round(n % 5 + 0.25, 2)",
        "timestamp": "timezone('UTC', now()) - make_interval(hours => n)",
        "date": "current_date - n",
        "uuid": "gen_random_uuid()",
        "jsonb": "jsonb_build_object('n', n)",
        "varchar[]": "ARRAY['a', 'ü']",
        "text[]": "ARRAY['b']",
    }[kind]


def reported_campaign(connection: sa.Connection) -> tuple[uuid.UUID, list[tuple[str, str]]]:
    """The campaign, and (address, subject) of the emails that it has not sent."""
    old = OldApplication(connection)
    batch = old.batch("reported")
    workflow = old.workflow(THREE_STEPS, name="reported")
    campaign = old.campaign(
        "reported", status="completed", campaign_type="manual", batch_id=batch, workflow_id=workflow, emails_sent=4
    )
    missing = []
    for number in range(10):
        address, company = f"reported{number}@example.com", f"Company {number}"
        lead = old.lead(address, company_name=company, batch_id=batch)
        subjects = [f"Hello {company}", f"Again, {company}", "Last word"]
        if number < 4:
            old.email(campaign, lead, 30, subject=subjects[0])
            del subjects[0]
        missing += [(address, subject) for subject in subjects]
    return campaign, missing


def changed(before: dict[str, Any], after: dict[str, Any]) -> dict[str, set[str]]:
    """Table → columns in which a row that was there before differs; a row that is gone fails."""
    differing: dict[str, set[str]] = {}
    for table, rows in before.items():
        for id_, row in rows.items():
            new = after[table][id_]
            names = {name for name in row if row[name] != new[name]}
            if names:
                differing.setdefault(table, set()).update(names)
    return differing


def migrate(stack: LocalStack, **options: Any) -> Any:
    return stack.invoke("MigrateFunction", {"action": "migrate_existing_campaigns", **options})


def test_existing_installation_is_adopted_finishes_its_campaigns_and_can_be_taken_back(
    legacy: sa.Engine, stack: LocalStack, ses: SesSimulator
) -> None:
    with old_application(legacy) as connection:
        fill(connection)
        reported, missing = reported_campaign(connection)
    before = old_rows(legacy)
    assert sum(map(len, before.values())) > 4000
    assert {row["status"] for row in before["campaigns"].values()} == {*SCHEMA["enums"]["campaign_status"], None}

    # The schema: nothing changes for the old application.
    stack.invoke("MigrateFunction", {})
    assert old_rows(legacy) == before

    # The data: refused without a backup, rehearsed, done.
    with pytest.raises(FunctionError, match="backup"):
        migrate(stack)
    rehearsed = migrate(stack, dry_run=True, reopen_incomplete=[str(reported)])
    assert old_rows(legacy) == before
    report = migrate(stack, snapshot="rds:before-sendledger", reopen_incomplete=[str(reported)])
    assert {**report, "dry_run": True} == rehearsed
    assert changed(before, old_rows(legacy)) == {"campaigns": {"status", "campaign_type", "workflow_id"}}
    assert report["needs_a_person"]
    assert any("the placeholder {{lostWord}} cannot be translated" in problem for problem in report["problems"])
    outcomes = Counter((row["status_before"], row.get("status_after")) for row in report["campaigns"])
    assert outcomes["active", "running"] >= 5
    assert outcomes["paused", "paused"] >= 5
    assert statuses(legacy, reported) == {"sent": 4, "pending": 26}
    with legacy.connect() as connection:
        past = sa.select(sa.func.count()).where(
            scheduled_emails.c.status == "pending", scheduled_emails.c.scheduled_for < sa.func.now() - DAY / 24
        )
        assert connection.scalar(past) == 0

    # Once more: nothing.
    adopted = old_rows(legacy)
    again = migrate(stack, backup_taken=True)
    assert again["tables"] == {}
    assert old_rows(legacy) == adopted

    # Days pass. The old application looks in: it takes the campaign for done again, and counts.
    for day in range(10):
        stack.tick()
        if day == 2:
            with old_application(legacy) as connection:
                connection.execute(
                    sa.text("UPDATE campaigns SET status = 'completed', emails_opened = 5 WHERE id = :id"),
                    {"id": reported},
                )
                connection.exec_driver_sql("INSERT INTO campaigns (name, status) VALUES ('new', 'active')")
        pass_time(legacy, DAY)
    accepted = [(mail.destination[0], mail.subject) for mail in ses.accepted()]
    assert sorted(mail for mail in accepted if mail[0].startswith("reported")) == sorted(missing)
    row = campaign_row(legacy, reported)
    assert (row["status"], row["emails_sent"], row["emails_sent_count"], row["emails_opened"]) == (
        "completed",
        30,
        30,
        5,
    )
    assert len(accepted) > len(missing)
    keys = [mail.tags["scheduled_email_id"] for mail in ses.accepted()]
    assert len(set(keys)) == len(keys)
    named = {
        "campaigns": {
            "status",
            "campaign_type",
            "workflow_id",
            "emails_sent",
            "emails_opened",
            "last_run_at",
            "updated_at",
        },
        "leads": {"status", "follow_up_stage", "last_contacted_at", "emails_sent", "updated_at"},
    }
    sent_from = old_rows(legacy)
    for table, columns in changed(before, sent_from).items():
        assert columns <= named[table]

    # Back: the old schema, the old rows, and the emails that were sent.
    downgrade(legacy)
    with legacy.connect() as connection:
        assert set(sa.inspect(connection).get_table_names()) == {*SCHEMA["tables"], "alembic_version"}
    restored = old_rows(legacy)
    texts = ("email_templates", "workflows", "workflow_steps")  # of which copies were made
    remaining = {name: len(before[name] if name in texts else rows) for name, rows in sent_from.items()}
    assert {name: len(rows) for name, rows in restored.items()} == remaining
    sent_from |= {name: before[name] for name in texts}
    differing = changed(before, restored)
    assert differing["campaigns"] <= named["campaigns"] - {"campaign_type", "workflow_id"}
    assert differing.keys() <= named.keys()
    assert changed(sent_from, restored) == {"campaigns": {"status", "campaign_type", "workflow_id"}}
    assert {row["status"] for row in restored["campaigns"].values()} <= {*SCHEMA["enums"]["campaign_status"], None}
