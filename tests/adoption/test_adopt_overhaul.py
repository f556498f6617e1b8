"""Databases after LeadNexConnect's campaign overhaul: put aside, adopted with their ledger as evidence, put back."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.util import CommandError

import migrate_handler
from local.postgres import Postgres
from sendledger.adoption import overhaul
from sendledger.adoption.run import refuse_other_schema
from sendledger.core.tables import SCHEMA_REVISION, campaigns, scheduled_emails
from sendledger.ledger import settle_unknown
from testbed.campaigns import campaign_row
from testbed.databases import MIGRATIONS
from testbed.legacy_database import adopt, alembic_config, downgrade, legacy_engine, upgrade
from testbed.odd_values import edge_values
from testbed.overhaul_database import OverhauledApplication, overhaul_by_hand, overhaul_with_users
from tests.adoption.test_adopt_schema import schema_of

FORMS = {"by_hand": overhaul_by_hand, "with_users": overhaul_with_users}


@pytest.fixture(params=FORMS)
def overhauled(request: pytest.FixtureRequest, postgres: Postgres) -> Iterator[sa.Engine]:
    with legacy_engine(postgres) as engine:
        with engine.begin() as connection:
            FORMS[request.param](connection)
        yield engine


def contents(engine: sa.Engine) -> dict[str, list[str]]:
    """Every row of every table, by name of its columns."""
    with engine.connect() as connection:
        names = connection.scalars(
            sa.text("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'")
        ).all()
        return {
            name: sorted(
                str(sorted(row.items())) for row in connection.scalars(sa.text(f"SELECT to_jsonb(t) FROM {name} t"))
            )
            for name in names
            if name != "alembic_version"
        }


def rows_of(engine: sa.Engine, campaign_id: uuid.UUID) -> dict[tuple[str, int], tuple[str, str | None]]:
    """(local part of the address, step) → (status, reason or error code)."""
    with engine.connect() as connection:
        found = connection.execute(
            sa.text("""SELECT split_part(l.email, '@', 1), e.workflow_step_number, e.status,
                              coalesce(e.reason, e.error_code)
                       FROM scheduled_emails e JOIN leads l ON l.id = e.lead_id WHERE e.campaign_id = :id"""),
            {"id": campaign_id},
        )
        return {(name, step): (status, why) for name, step, status, why in found}


def workflow(old: OverhauledApplication, steps: int = 3) -> uuid.UUID:
    id_ = old.insert("workflows", name="flow", steps_count=steps)
    for number in range(1, steps + 1):
        template = old.template(f"step {number}", f"Step {number} for {{{{companyName}}}}", body_html="<p>Hi</p>")
        old.step(id_, number, template, 0 if number == 1 else 3)
    return id_


def campaign(old: OverhauledApplication, status: str = "running", **values: Any) -> uuid.UUID:
    return old.campaign(status=status, campaign_type="outreach", use_workflow=True, workflow_id=workflow(old), **values)


def some_data(old: OverhauledApplication) -> None:
    """Every kind of row of its ledger in campaigns of every status, and the rows around it."""
    for status in ("draft", "scheduled", "running", "paused", "completed", "failed"):
        batch = old.batch(f"batch of {status}")
        made = campaign(old, status, name=status, batch_ids=[str(batch), "no id", None], emails_sent_count=3)
        old.connection.execute(
            sa.text("UPDATE lead_batches SET active_campaign_id = :campaign WHERE id = :id"),
            {"campaign": made, "id": batch},
        )
        for number, word in enumerate(("sent", "failed", "skipped", "cancelled", "pending", "odd")):
            lead = old.lead(f"{status}{number}@example.com", batch_id=batch)
            old.scheduled(made, lead, 1, word, failure_reason="Campaign status is paused")
            old.scheduled(made, lead, None if number else 2, "pending")


def test_schema_after_the_overhaul_becomes_the_same_as_from_the_tables(
    overhauled: sa.Engine, engine: sa.Engine
) -> None:
    with overhauled.begin() as connection:
        some_data(OverhauledApplication(connection))
    upgrade(overhauled, overhaul_stopped=True)
    with overhauled.connect() as connection:
        command.check(alembic_config(connection))
        refuse_other_schema(connection, SCHEMA_REVISION)
    ours, fresh = schema_of(overhauled), schema_of(engine)
    for part in ("constraints", "indexes", "triggers", "casts", "sequences"):
        # The overhaul's other tables are left alone, and what was moved is elsewhere.
        others = ("('users", "('automated_campaign_runs", "('leadnex_overhaul.")
        beside = [line for line in ours[part] if not line.startswith(others)]
        assert beside == fresh[part], part


def test_overhaul_is_refused_in_three_lines_until_its_application_is_confirmed_as_stopped(
    overhauled: sa.Engine,
) -> None:
    with overhauled.begin() as connection:
        some_data(OverhauledApplication(connection))
    before = schema_of(overhauled), contents(overhauled)
    with pytest.raises(CommandError, match=r"(?s)Nothing was changed.*must be stopped.*--overhaul-stopped") as refused:
        upgrade(overhauled)
    assert len(str(refused.value).splitlines()) == 3
    assert (schema_of(overhauled), contents(overhauled)) == before


def test_alembic_command_and_function_can_say_that_it_is_stopped(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    with legacy_engine(postgres) as engine:
        with engine.begin() as connection:
            overhaul_by_hand(connection)
        url = engine.url.render_as_string(hide_password=False)
        monkeypatch.setenv("DATABASE_URL", url)
        with pytest.raises(CommandError, match="must be stopped"):
            migrate_handler.lambda_handler({}, None)  # type: ignore[arg-type]
        migrated = migrate_handler.lambda_handler({"overhaul_stopped": True}, None)  # type: ignore[arg-type]
        assert migrated["revision"] == SCHEMA_REVISION
        downgrade(engine)
        alembic = [sys.executable, "-m", "alembic", "--config", "migrations/alembic.ini"]
        subprocess.run([*alembic, "-x", "overhaul-stopped", "upgrade", "head"], cwd=MIGRATIONS.parent, check=True)


def test_overhaul_with_an_unknown_column_is_refused_in_three_lines(overhauled: sa.Engine) -> None:
    with overhauled.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE leads ADD shoe_size integer")
    before = schema_of(overhauled)
    with pytest.raises(CommandError, match=r"(?s)overhaul.*Nothing was changed.*leads\.shoe_size") as refused:
        upgrade(overhauled, overhaul_stopped=True)
    assert len(str(refused.value).splitlines()) == 3
    assert schema_of(overhauled) == before


def test_downgrade_gives_the_overhaul_back_and_the_next_adoption_does_the_same(overhauled: sa.Engine) -> None:
    with overhauled.begin() as connection:
        some_data(OverhauledApplication(connection))
    before = schema_of(overhauled), contents(overhauled)
    upgrade(overhauled, overhaul_stopped=True)
    downgrade(overhauled)
    with overhauled.begin() as connection:
        connection.exec_driver_sql("DROP TABLE alembic_version")
    after = schema_of(overhauled), contents(overhauled)
    # A dropped column leaves its number behind, and texts that a step took from its template stay.
    del before[0]["columns"], after[0]["columns"]
    assert after[0] == before[0]
    del before[1]["workflow_steps"], after[1]["workflow_steps"]
    assert after[1] == before[1]
    upgrade(overhauled, overhaul_stopped=True)
    first = adopt(overhauled)
    downgrade(overhauled)
    upgrade(overhauled, overhaul_stopped=True)
    assert [one.rows for one in adopt(overhauled).campaigns] == [one.rows for one in first.campaigns]


def test_status_of_the_overhaul_comes_back_where_it_means_the_same(overhauled: sa.Engine) -> None:
    words = ("draft", "scheduled", "running", "paused", "completed", "failed")
    with overhauled.begin() as connection:
        old = OverhauledApplication(connection)
        made = {word: old.campaign(word, status=word, campaign_type="lead_generation") for word in words}
    upgrade(overhauled, overhaul_stopped=True)
    became = {word: campaign_row(overhauled, id_)["status"] for word, id_ in made.items()}
    assert became == {
        "draft": "draft",
        "scheduled": "draft",
        "running": "active",
        "paused": "paused",
        "completed": "completed",
        "failed": "paused",
    }
    with overhauled.begin() as connection:
        connection.execute(sa.text("UPDATE campaigns SET status = 'archived' WHERE name = 'failed'"))
    downgrade(overhauled)
    with overhauled.connect() as connection:
        back = {row.name: row.status for row in connection.execute(sa.text("SELECT name, status::text FROM campaigns"))}
    assert back == {word: word for word in words} | {"failed": "archived"}


def test_rows_of_the_old_ledger_are_evidence(overhauled: sa.Engine) -> None:
    with overhauled.begin() as connection:
        old = OverhauledApplication(connection)
        made = campaign(old, batch_ids=[str(old.batch())])
        leads = {word: old.lead(f"{word}@example.com") for word in ("sent", "failed", "skipped", "cancelled", "odd")}
        for word, lead in leads.items():
            old.scheduled(made, lead, 1, word)
            old.scheduled(made, lead, 2, "pending")
    upgrade(overhauled, overhaul_stopped=True)
    report = adopt(overhauled)
    rows = rows_of(overhauled, made)
    assert {name: rows[name, 1] for name in leads} == {
        "sent": ("sent", None),
        "failed": ("failed", "outcome_unknown"),
        "skipped": ("skipped", "skipped_before"),
        "cancelled": ("cancelled", "skipped_before"),
        "odd": ("failed", "outcome_unknown"),
    }
    assert {rows[name, step] for name in leads for step in (2, 3)} == {("pending", None)}
    assert report.campaigns[0].rows == Counter(pending=10, failed=2, sent=1, skipped=1, cancelled=1)
    assert (report.tables["emails"], campaign_row(overhauled, made)["emails_failed_count"]) == (0, 2)


def test_row_of_unknown_outcome_can_be_marked_as_sent(overhauled: sa.Engine) -> None:
    with overhauled.begin() as connection:
        old = OverhauledApplication(connection)
        made = campaign(old)
        old.scheduled(made, old.lead("ann@example.com"), 1, "failed")
    upgrade(overhauled, overhaul_stopped=True)
    adopt(overhauled)
    with overhauled.begin() as connection:
        failed = connection.scalar(sa.text("SELECT id FROM scheduled_emails WHERE status = 'failed'"))
        settle_unknown.mark_sent(connection, failed or 0, "operator")
    assert rows_of(overhauled, made)["ann", 1] == ("sent", None)


def test_step_that_one_of_the_records_has_as_sent_is_not_sent_again(overhauled: sa.Engine) -> None:
    with overhauled.begin() as connection:
        old = OverhauledApplication(connection)
        made = campaign(old)
        names = ("both", "only_email", "only_ledger", "initial_twice", "time_only")
        leads = {name: old.lead(f"{name}@example.com") for name in names}
        old.scheduled(made, leads["both"], 1, "sent")
        old.email(made, leads["both"], 4, follow_up_stage="initial")
        # Killed between the sending and the record of it.
        old.scheduled(made, leads["only_email"], 1, "pending")
        old.email(made, leads["only_email"], 4, follow_up_stage="initial")
        old.scheduled(made, leads["only_ledger"], 1, "sent")
        # The second email says nothing of its step; the ledger does.
        old.scheduled(made, leads["initial_twice"], 1, "pending")
        old.scheduled(made, leads["initial_twice"], 2, "sent")
        old.email(made, leads["initial_twice"], 4, follow_up_stage="initial")
        old.scheduled(made, leads["time_only"], 1, "pending", sent_at=dt.datetime.now(dt.UTC).replace(tzinfo=None))
    upgrade(overhauled, overhaul_stopped=True)
    adopt(overhauled)
    rows = rows_of(overhauled, made)
    for name in ("both", "only_email", "only_ledger", "time_only"):
        assert [rows[name, step][0] for step in (1, 2, 3)] == ["sent", "pending", "pending"], name
    assert rows["initial_twice", 1] == ("skipped", "later_step_sent")
    assert [rows["initial_twice", step][0] for step in (2, 3)] == ["sent", "pending"]


def test_of_several_rows_of_one_step_the_surest_counts(overhauled: sa.Engine) -> None:
    with overhauled.begin() as connection:
        old = OverhauledApplication(connection)
        made = campaign(old)
        ann, bob = old.lead("ann@example.com"), old.lead("bob@example.com")
        for status in ("pending", "sent", "failed"):
            old.scheduled(made, ann, 1, status)
        for status in ("pending", "skipped", "failed"):
            old.scheduled(made, bob, 1, status)
    upgrade(overhauled, overhaul_stopped=True)
    adopt(overhauled)
    rows = rows_of(overhauled, made)
    assert (rows["ann", 1][0], rows["bob", 1][0]) == ("sent", "failed")


def test_what_a_pause_cancelled_is_pending_after_a_resume(overhauled: sa.Engine) -> None:
    with overhauled.begin() as connection:
        old = OverhauledApplication(connection)
        made = campaign(old, "paused")
        old.scheduled(made, old.lead("ann@example.com"), 1, "cancelled")
    upgrade(overhauled, overhaul_stopped=True)
    adopt(overhauled)
    assert rows_of(overhauled, made) == {("ann", step): ("cancelled", "paused") for step in (1, 2, 3)}


def test_leads_that_the_old_ledger_does_not_have_get_nothing(overhauled: sa.Engine) -> None:
    with overhauled.begin() as connection:
        old = OverhauledApplication(connection)
        batch = old.batch()
        made = campaign(old, batch_ids=[str(batch)])
        old.scheduled(made, old.lead("ann@example.com", batch_id=batch), 1, "pending")
        old.lead("late@example.com", batch_id=batch)
    upgrade(overhauled, overhaul_stopped=True)
    adopt(overhauled)
    assert {name for name, _ in rows_of(overhauled, made)} == {"ann"}
    assert campaign_row(overhauled, made)["batch_ids"] == [batch]


def test_campaign_that_had_no_rows_yet_gets_its_batches_leads(overhauled: sa.Engine) -> None:
    with overhauled.begin() as connection:
        old = OverhauledApplication(connection)
        batch = old.batch()
        made = campaign(old, batch_ids=[str(batch)])
        old.lead("ann@example.com", batch_id=batch)
    upgrade(overhauled, overhaul_stopped=True)
    adopt(overhauled)
    assert rows_of(overhauled, made) == {("ann", step): ("pending", None) for step in (1, 2, 3)}


def test_campaign_with_one_template_sends_no_follow_ups(overhauled: sa.Engine) -> None:
    with overhauled.begin() as connection:
        old = OverhauledApplication(connection)
        for stage in ("follow_up_1", "follow_up_2"):
            old.template(stage, follow_up_stage=stage)
        made = old.campaign(status="running", campaign_type="outreach", email_template_id=old.template("single"))
        old.scheduled(made, old.lead("ann@example.com"), 1, "pending")
    upgrade(overhauled, overhaul_stopped=True)
    adopt(overhauled)
    assert rows_of(overhauled, made) == {("ann", 1): ("pending", None)}


def test_steps_send_the_translated_text_of_their_template(overhauled: sa.Engine) -> None:
    with overhauled.begin() as connection:
        old = OverhauledApplication(connection)
        made = campaign(old)
        old.scheduled(made, old.lead("ann@example.com"), 1, "pending")
    upgrade(overhauled, overhaul_stopped=True)
    adopt(overhauled)
    with overhauled.connect() as connection:
        first = connection.execute(
            sa.text("SELECT subject, body_html FROM campaign_steps WHERE campaign_id = :id AND step_number = 1"),
            {"id": made},
        ).one()
    assert tuple(first) == ("Step 1 for {{ company_name | default('') }}", "<p>Hi</p>")


def test_dry_run_says_what_the_real_run_does(overhauled: sa.Engine) -> None:
    with overhauled.begin() as connection:
        some_data(OverhauledApplication(connection))
    upgrade(overhauled, overhaul_stopped=True)
    rehearsed = adopt(overhauled, dry_run=True, reopen=True)
    done = adopt(overhauled, reopen=True)
    assert rehearsed.tables == done.tables
    assert rehearsed.tables["scheduled_emails"] > 0
    assert [list(one.lines()) for one in rehearsed.campaigns] == [list(one.lines()) for one in done.campaigns]
    assert "must stay stopped" in next(rehearsed.lines())
    with overhauled.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM scheduled_emails")) == done.tables["scheduled_emails"]


def test_rows_can_be_added_and_deleted_although_the_overhaul_had_tied_them(overhauled: sa.Engine) -> None:
    with overhauled.begin() as connection:
        old = OverhauledApplication(connection)
        made = campaign(old)
        old.scheduled(made, old.lead("ann@example.com"), 1, "sent")
    upgrade(overhauled, overhaul_stopped=True)
    with overhauled.begin() as connection:
        for statement in (
            "DELETE FROM workflow_steps",
            "DELETE FROM email_templates",
            "DELETE FROM workflows",
            "INSERT INTO leads (company_name, industry, source) VALUES ('Acme', 'spa', 'csv')",
            "INSERT INTO workflows (name) VALUES ('new')",
        ):
            connection.exec_driver_sql(statement)
    downgrade(overhauled)
    with overhauled.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM scheduled_emails WHERE status = 'sent'")) == 1


def test_odd_values_of_its_columns_stop_nothing(overhauled: sa.Engine) -> None:
    with overhauled.begin() as connection:
        old = OverhauledApplication(connection)
        flow, template = workflow(old), old.template("of all rows")

        def store(table: str, id_: uuid.UUID, column: str, value: str | None) -> None:
            place = f"CAST(CAST(:value AS text) AS {old.types[table][column]})"
            values = {"value": value, "id": id_}
            connection.execute(sa.text(f"UPDATE {table} SET {column} = {place} WHERE id = :id"), values)

        def row(made: uuid.UUID) -> uuid.UUID:
            lead = old.lead(f"{uuid.uuid4().hex}@example.com")
            return old.scheduled(made, lead, 1, "pending", template_id=template)

        for column, type_ in overhaul.COLUMNS["campaigns"].items():
            for value in [*edge_values(type_), None]:
                made = old.campaign(status="running", campaign_type="outreach", workflow_id=flow)
                row(made)
                store("campaigns", made, column, value)
        everything = old.campaign(status="running", campaign_type="outreach", workflow_id=flow)
        for column in ("workflow_step_number", "scheduled_for", "sent_at", "updated_at", "status"):
            for value in edge_values(old.types["scheduled_emails"][column]):
                store("scheduled_emails", row(everything), column, value)
    upgrade(overhauled, overhaul_stopped=True)
    rehearsed, report = adopt(overhauled, dry_run=True), adopt(overhauled)
    assert {**rehearsed.as_dict(), "dry_run": False} == report.as_dict()
    assert [line for each in report.campaigns for line in each.problems] == []
    with overhauled.connect() as connection:
        read = connection.execute(sa.select(campaigns)).mappings().all()
        assert {each["status"] for each in read} == {"running"}
        connection.execute(sa.select(scheduled_emails)).all()
