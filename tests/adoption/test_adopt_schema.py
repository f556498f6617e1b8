"""One schema, whether a database starts empty or as a LeadNexConnect installation; anything else is refused."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from local.postgres import Postgres
from sendledger.adoption.run import refuse_other_schema
from sendledger.content import email_templates
from sendledger.core import database
from sendledger.core.errors import Conflict
from sendledger.core.settings import DatabaseSettings
from sendledger.core.tables import metadata
from testbed.databases import MIGRATIONS, admin, let_functions_work
from testbed.legacy_database import (
    SCHEMA,
    THREE_STEPS,
    OldApplication,
    adopt,
    alembic_config,
    create_old_tables,
    downgrade,
    legacy_engine,
    old_application,
    old_rows,
    upgrade,
)
from testbed.overhaul_database import overhaul_by_hand

CATALOG = {
    "columns": """
        SELECT table_name, column_name, ordinal_position, udt_name, character_maximum_length, numeric_precision,
               numeric_scale, is_nullable, column_default, is_identity
        FROM information_schema.columns WHERE table_schema = 'public'""",
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), convalidated
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND conrelid <> 0""",
    "indexes": """
        SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid), i.indisvalid, i.indisready
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relnamespace = 'public'::regnamespace""",
    "triggers": "SELECT tgrelid::regclass::text, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
    "functions": "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
    "casts": "SELECT castsource::regtype::text, casttarget::regtype::text, castcontext FROM pg_cast WHERE oid >= 16384",
    "types": "SELECT enumtypid::regtype::text, enumlabel, enumsortorder FROM pg_enum",
    "sequences": "SELECT sequencename, data_type::text, start_value, increment_by FROM pg_sequences",
}


def schema_of(engine: sa.Engine) -> dict[str, list[str]]:
    with engine.connect() as connection:
        return {
            part: sorted(str(tuple(row)) for row in connection.execute(sa.text(query)))
            for part, query in CATALOG.items()
        }


@pytest.fixture
def legacy(postgres: Postgres) -> Iterator[sa.Engine]:
    with legacy_engine(postgres) as engine:
        yield engine


@pytest.fixture
def blank(postgres: Postgres) -> Iterator[sa.Engine]:
    name = "blank_database"
    with admin(postgres) as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine = database.engine(DatabaseSettings.read({"DATABASE_URL": postgres.url(name)}))
    yield engine
    engine.dispose()
    with admin(postgres) as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))


def change(engine: sa.Engine, statements: str) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(statements)


def test_schema_is_the_same_from_an_empty_and_from_an_existing_database(
    legacy: sa.Engine, engine: sa.Engine, connection: sa.Connection
) -> None:
    upgrade(legacy)
    assert schema_of(legacy) == schema_of(engine)
    with legacy.connect() as adopted:
        command.check(alembic_config(adopted))


def test_downgrade_restores_the_old_schema(legacy: sa.Engine) -> None:
    before = schema_of(legacy)
    upgrade(legacy)
    downgrade(legacy)
    change(legacy, "DROP TABLE alembic_version")
    after = schema_of(legacy)
    # A dropped column leaves its number behind.
    del before["columns"], after["columns"]
    assert after == before


def test_every_status_survives_upgrade_and_downgrade(legacy: sa.Engine) -> None:
    with old_application(legacy) as connection:
        old = OldApplication(connection)
        for status in ("draft", "active", "paused", "completed", "archived", None):
            old.campaign(f"is {status}", status=status)
    before = old_rows(legacy)
    upgrade(legacy)
    assert old_rows(legacy) == before
    downgrade(legacy)
    assert old_rows(legacy) == before


def test_downgrade_leaves_no_copies_and_the_next_adoption_makes_as_many(legacy: sa.Engine) -> None:
    with old_application(legacy) as connection:
        old = OldApplication(connection)
        for stage in ("follow_up_1", "follow_up_2"):
            old.template(stage, follow_up_stage=stage)
        single = old.template("single")
        for status in ("active", "paused", "draft"):
            with_workflow = old.campaign(
                f"{status} with a workflow", status=status, workflow_id=old.workflow(THREE_STEPS)
            )
            with_follow_ups = old.campaign(f"{status} with follow-ups", status=status, email_template_id=single)
            for campaign in (with_workflow, with_follow_ups):
                old.insert("campaign_leads", campaign_id=campaign, lead_id=old.lead(f"{campaign}@example.com"))
    before = texts(legacy)
    upgrade(legacy)
    adopt(legacy)
    adopted = texts(legacy)
    assert adopted != before
    downgrade(legacy)
    assert texts(legacy) == before
    upgrade(legacy)
    adopt(legacy)
    assert texts(legacy) == adopted


def test_downgrade_keeps_copies_that_somebody_edited_or_used(legacy: sa.Engine) -> None:
    with old_application(legacy) as connection:
        old = OldApplication(connection)
        campaign = old.campaign(status="active", workflow_id=old.workflow(THREE_STEPS))
        old.insert("campaign_leads", campaign_id=campaign, lead_id=old.lead("ann@example.com"))
    upgrade(legacy)
    adopt(legacy)
    with legacy.begin() as connection:
        edited, used, _ = connection.scalars(sa.text("SELECT id FROM email_templates ORDER BY id")).all()
        email_templates.update(connection, edited, {"name": "edited"})
        connection.execute(sa.text("INSERT INTO campaigns (name, email_template_id) VALUES ('new', :id)"), {"id": used})
    downgrade(legacy)
    assert texts(legacy)["email_templates"].keys() == {str(edited), str(used)}


def test_downgrade_goes_on_after_what_the_campaigns_had_was_deleted(legacy: sa.Engine) -> None:
    with old_application(legacy) as connection:
        old = OldApplication(connection)
        workflow, template = old.workflow(THREE_STEPS), old.template("single")
        sources: tuple[dict[str, Any], ...] = (
            {"workflow_id": workflow},
            {"email_template_id": template, "follow_up_enabled": False},
        )
        for source in sources:
            campaign = old.campaign(status="active", **source)
            old.insert("campaign_leads", campaign_id=campaign, lead_id=old.lead("ann@example.com"))
    upgrade(legacy)
    adopt(legacy)
    change(
        legacy, f"DELETE FROM workflows WHERE id = '{workflow}'; DELETE FROM email_templates WHERE id = '{template}'"
    )
    downgrade(legacy)
    found = old_rows(legacy)["campaigns"].values()
    assert [(row["status"], row["workflow_id"]) for row in found] == [("active", None)] * 2


def texts(engine: sa.Engine) -> dict[str, dict[str, dict[str, Any]]]:
    rows = old_rows(engine)
    for row in [row for table in rows.values() for row in table.values()]:
        row.pop("created_at", None)
        row.pop("updated_at", None)
    return {table: rows[table] for table in ("email_templates", "workflows", "workflow_steps")}


def test_upgrade_goes_on_after_an_interrupted_index_build(legacy: sa.Engine) -> None:
    upgrade(legacy, "0006b")
    change(legacy, "CREATE INDEX leads_batch_id_idx ON leads (id)")
    upgrade(legacy)
    with legacy.connect() as connection:
        command.check(alembic_config(connection))


def test_lock_that_somebody_holds_is_not_waited_for_long(legacy: sa.Engine) -> None:
    upgrade(legacy, "0001")
    with old_application(legacy) as other:
        other.execute(sa.text("LOCK TABLE campaigns IN ACCESS SHARE MODE"))
        with legacy.connect() as connection, pytest.raises(sa.exc.DBAPIError, match="lock timeout"):
            command.upgrade(alembic_config(connection), "0002")
    upgrade(legacy)


@pytest.mark.parametrize(
    ("statements", "found"),
    [
        ("DROP TABLE settings", "missing: table settings"),
        ("ALTER TABLE leads DROP batch_id", "missing: column leads.batch_id uuid"),
        ("ALTER TABLE leads ALTER email TYPE text", r"missing: column leads.email character varying\(255\)"),
        ("ALTER TABLE emails DROP CONSTRAINT emails_lead_id_leads_id_fk", "missing: constraint emails.emails_lead_id"),
        ("ALTER TABLE campaigns ADD batch_ids uuid[]", "unknown, .*: column campaigns.batch_ids uuid"),
        ("ALTER TYPE lead_status ADD VALUE 'unsubscribed'", "unknown, .*: type lead_status .*unsubscribed"),
        ("CREATE TABLE replies (id int)", "in the way: table replies, a name that Sendledger needs: rename it"),
        ("CREATE VIEW senders AS SELECT email FROM leads", "in the way: view senders, a name"),
        (
            "CREATE INDEX leads_newest_idx ON leads (id)",
            "in the way: index leads_newest_idx, a name that Sendledger needs",
        ),
        (
            "ALTER TABLE leads ENABLE ROW LEVEL SECURITY",
            "in the way: row-level security on table leads: ALTER TABLE leads DISABLE ROW LEVEL SECURITY",
        ),
        (
            "CREATE VIEW v AS SELECT * FROM campaigns",
            "in the way: rule _RETURN on view v, which reads campaigns.status",
        ),
        ("CREATE INDEX i ON campaigns (id) WHERE status = 'active'", "in the way: index i, which reads"),
        ("CREATE POLICY p ON campaigns USING (status <> 'archived')", "in the way: policy p on table campaigns, which"),
        (
            """CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
            CREATE TRIGGER t AFTER UPDATE OF status ON campaigns FOR EACH ROW EXECUTE FUNCTION noted()""",
            "in the way: trigger t on table campaigns, which reads",
        ),
    ],
)
def test_database_that_differs_is_refused_with_what_was_found(legacy: sa.Engine, statements: str, found: str) -> None:
    change(legacy, statements)
    before = schema_of(legacy)
    with pytest.raises(CommandError, match=f"(?s)Nothing was changed.*{found}"):
        upgrade(legacy)
    change(legacy, "DROP TABLE IF EXISTS alembic_version")
    assert schema_of(legacy) == before


def test_names_of_all_indexes_on_old_tables_are_looked_for() -> None:
    written = {
        name
        for revision in (MIGRATIONS / "versions").glob("*.py")
        for name in re.findall(r"\b\w+_(?:idx|key)\b", revision.read_text())
    }
    on_old_tables = {name for name in written if name.startswith(tuple(f"{table}_" for table in SCHEMA["tables"]))}
    known = {index.name for table in metadata.tables.values() for index in table.indexes}
    first = ScriptDirectory(str(MIGRATIONS)).get_revision("0001").module
    assert on_old_tables - known == set(first.OTHER_INDEXES)


def test_database_whose_functions_had_their_users_can_be_upgraded_again(legacy: sa.Engine) -> None:
    upgrade(legacy)
    let_functions_work(legacy.url.render_as_string(hide_password=False))
    downgrade(legacy)
    upgrade(legacy)


OVERHAUL = """
    ALTER TYPE campaign_status ADD VALUE 'running';
    ALTER TABLE campaigns ADD batch_ids jsonb, ADD start_type varchar(20) DEFAULT 'manual', ADD paused_at timestamp;
    CREATE TABLE scheduled_emails (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(), campaign_id uuid NOT NULL REFERENCES campaigns (id),
        status varchar(20) NOT NULL DEFAULT 'pending', email_id uuid REFERENCES emails (id));
    ALTER TABLE workflow_steps ADD email_template_id uuid REFERENCES email_templates (id)
"""
"""A part of what LeadNexConnect's overhaul did, which matches none of its migrations."""


def command_line(url: str, *arguments: str, folder: Path = MIGRATIONS.parent) -> subprocess.CompletedProcess[str]:
    """What `make migrate` runs, in the project's folder."""
    alembic = [sys.executable, "-m", "alembic", "--config", "migrations/alembic.ini"]
    return subprocess.run(
        [*alembic, *(arguments or ("upgrade", "head"))],
        cwd=folder,
        env={**os.environ, "DATABASE_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://nobody@127.0.0.1:1/none", "The database refused; .*could not be reached"),
        ("{server}", 'The database refused; .*database "missing" does not exist'),
        ("", "Bad settings: set DATABASE_URL or DATABASE_HOST"),
        ("mysql://localhost/none", "DATABASE_URL: is not a postgresql:// URL"),
    ],
)
def test_upgrade_that_cannot_begin_is_one_sentence(postgres: Postgres, url: str, said: str) -> None:
    done = command_line(url.format(server=postgres.url("missing")))
    assert re.fullmatch(f"FAILED: {said}.*\n", done.stdout), done.stdout
    assert done.returncode != 0


def test_project_may_be_in_a_folder_of_any_name(blank: sa.Engine, tmp_path: Path) -> None:
    odd = tmp_path / "100%41 %(here)s % o'neill"
    odd.mkdir()
    (odd / "migrations").symlink_to(MIGRATIONS)
    done = command_line(blank.url.render_as_string(hide_password=False), folder=odd)
    assert done.returncode == 0, done.stdout


def test_unknown_form_of_the_overhaul_is_refused_in_three_lines(legacy: sa.Engine) -> None:
    change(legacy, OVERHAUL)
    before = schema_of(legacy)
    with pytest.raises(CommandError, match=r"(?s)overhaul.*scheduled_emails\.lead_id.*0004_deep") as refused:
        upgrade(legacy)
    assert schema_of(legacy) == before
    done = command_line(legacy.url.render_as_string(hide_password=False))
    assert done.stdout.strip() == f"FAILED: {refused.value}"
    assert len(done.stdout.splitlines()) == 3


def test_database_of_something_else_is_refused(blank: sa.Engine) -> None:
    change(blank, "CREATE TABLE orders (id int)")
    with pytest.raises(CommandError, match=r"It has 1 tables; .* Found:\n  missing: table activity_log"):
        upgrade(blank)
    with blank.connect() as connection:
        assert "campaigns" not in sa.inspect(connection).get_table_names()


@pytest.mark.parametrize(
    ("statements", "found"),
    [
        ("", "Found:\n  missing: table activity_log"),
        ("CREATE TABLE campaigns (id uuid)", r"the first: missing: column scheduled_emails\.campaign_id uuid"),
    ],
)
def test_database_of_something_else_that_schedules_emails_is_refused(
    blank: sa.Engine, statements: str, found: str
) -> None:
    change(blank, f"CREATE TABLE scheduled_emails (id uuid); {statements}")
    before = schema_of(blank)
    with pytest.raises(CommandError, match=f"(?s)Nothing was changed.*{found}"):
        upgrade(blank)
    assert schema_of(blank) == before


@pytest.mark.parametrize(
    ("statements", "found"),
    [
        ("ALTER TABLE campaigns DROP campaign_type", r"campaigns\.campaign_type character varying\(50\)"),
        ("ALTER TABLE workflow_steps DROP subject", r"workflow_steps\.subject character varying\(500\)"),
    ],
)
def test_overhaul_that_lacks_a_column_of_the_tables_before_it_is_refused(
    legacy: sa.Engine, statements: str, found: str
) -> None:
    with legacy.begin() as connection:
        overhaul_by_hand(connection)
    change(legacy, statements)
    with pytest.raises(CommandError, match=f"the first: missing: column {found}"):
        upgrade(legacy)


def test_other_tables_views_and_indexes_in_the_old_database_are_left_alone(legacy: sa.Engine) -> None:
    change(legacy, "CREATE TABLE orders (id int); CREATE VIEW names AS SELECT name FROM campaigns")
    change(legacy, "CREATE INDEX theirs ON campaigns (status)")
    upgrade(legacy)
    with legacy.connect() as connection:
        refuse_other_schema(connection, ScriptDirectory(str(MIGRATIONS)).get_current_head())
    downgrade(legacy)
    assert "theirs" in str(schema_of(legacy)["indexes"])


def test_old_tables_may_be_in_another_schema(blank: sa.Engine) -> None:
    change(blank, f"CREATE SCHEMA app; ALTER DATABASE {blank.url.database} SET search_path = app")
    blank.dispose()
    with blank.begin() as connection:
        create_old_tables(connection)
        old = OldApplication(connection)
        campaign, lead = (
            old.campaign(status="active", workflow_id=old.workflow(THREE_STEPS)),
            old.lead("ann@example.com"),
        )
        old.email(campaign, lead, 1)
    upgrade(blank)
    adopt(blank)
    with old_application(blank) as connection:
        OldApplication(connection).email(campaign, lead, 0)
        connection.execute(sa.text("UPDATE campaigns SET status = 'completed'"))
    with blank.connect() as connection:
        assert connection.scalar(sa.text("SELECT status FROM campaigns")) == "running"
        assert connection.scalar(sa.text("SELECT count(*) FROM scheduled_emails WHERE status = 'sent'")) == 2


def test_downgrade_that_a_view_prevents_names_the_view(legacy: sa.Engine) -> None:
    upgrade(legacy)
    change(legacy, "CREATE VIEW v AS SELECT status FROM campaigns")
    done = command_line(legacy.url.render_as_string(hide_password=False), "downgrade", "base")
    assert re.fullmatch(r"FAILED: The database refused; .*view v\b.*\n", done.stdout), done.stdout
    change(legacy, "DROP VIEW v")
    downgrade(legacy)


def test_older_server_is_refused(legacy: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(legacy.dialect, "server_version_info", (13, 22))
    with pytest.raises(CommandError, match=r"^This is PostgreSQL 13, and Sendledger needs 14 or newer\. Nothing was"):
        upgrade(legacy)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_database_of_another_encoding_is_refused(postgres: Postgres, encoding: str) -> None:
    name = f"other_encoding_{encoding.lower()}"
    with admin(postgres) as connection:
        locale = "LC_COLLATE 'C' LC_CTYPE 'C'"
        if (connection.dialect.server_version_info or ()) >= (15,):
            locale += " LOCALE_PROVIDER libc"
        connection.execute(sa.text(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' {locale}"))
    try:
        done = command_line(postgres.url(name))
    finally:
        with admin(postgres) as connection:
            connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    assert done.stdout.startswith(f"FAILED: This database has the encoding {encoding}, and Sendledger needs UTF8.")
    assert done.stdout.count("\n") == 1


def test_database_of_a_newer_version_is_refused(engine: sa.Engine) -> None:
    change(engine, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(CommandError, match="revision 9999, which this version of Sendledger does not know"):
        upgrade(engine)


def test_database_restored_in_parts_is_refused(engine: sa.Engine) -> None:
    change(engine, "DROP TABLE scheduled_emails CASCADE")
    with pytest.raises(CommandError, match=r"scheduled_emails\.id of revision 0005 is missing"):
        upgrade(engine)
    change(engine, "UPDATE alembic_version SET version_num = '0003'")
    with pytest.raises(CommandError, match=r"workflow_steps\.email_template_id of revision 0004 is there already"):
        upgrade(engine)


def test_adoption_refuses_a_database_that_is_not_migrated(legacy: sa.Engine, blank: sa.Engine) -> None:
    for unready, tables in ((legacy, 18), (blank, 0)):
        with unready.connect() as connection, pytest.raises(Conflict, match=f"not been migrated .* {tables} tables"):
            refuse_other_schema(connection, "0007")


def test_adoption_refuses_another_revision_and_a_schema_that_differs(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        head = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one()
        refuse_other_schema(connection, head)
        with pytest.raises(Conflict, match=f"is at revision {head}, this version works with 9999"):
            refuse_other_schema(connection, "9999")
    change(engine, "ALTER TABLE campaigns DROP late_hold_until")
    with engine.connect() as connection, pytest.raises(Conflict, match="late_hold_until"):
        refuse_other_schema(connection, head)


def test_adoption_of_a_fresh_installation_has_nothing_to_do(engine: sa.Engine) -> None:
    report = adopt(engine)
    assert not report.needs_a_person
    assert +report.tables == {}


def test_old_tables_can_be_made_in_an_empty_database(blank: sa.Engine) -> None:
    with blank.begin() as connection:
        create_old_tables(connection)
    assert set(old_rows(blank)) == {
        *("activity_log", "api_config", "api_performance", "api_usage", "campaign_leads", "campaigns"),
        *("custom_variables", "email_templates", "emails", "lead_batches", "lead_source_roi", "leads"),
        *("scraping_jobs", "settings", "smtp_config", "website_analysis_cache", "workflow_steps", "workflows"),
    }
