"""The schema that the migrations make is the one that the code works with."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from sendledger.core.tables import SCHEMA_REVISION, has_these_tables, metadata, revision_order
from testbed.databases import SCRIPTS


def alembic_config(connection: sa.Connection) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", SCRIPTS)
    return config


def test_migrated_schema_equals_the_tables_in_code(connection: sa.Connection) -> None:
    command.check(alembic_config(connection))


def test_every_revision_can_be_downgraded_and_upgraded_again(connection: sa.Connection) -> None:
    config = alembic_config(connection)
    command.downgrade(config, "base")
    command.upgrade(config, "head")
    command.check(config)


@pytest.mark.parametrize(
    "change", ["UPDATE audit_log SET actor = 'bob'", "DELETE FROM audit_log", "TRUNCATE audit_log"]
)
def test_audit_log_only_grows(connection: sa.Connection, change: str) -> None:
    connection.execute(
        sa.text("INSERT INTO audit_log (actor, action, entity_type, entity_id) VALUES ('a', 'start', 'campaign', '1')")
    )
    with pytest.raises(sa.exc.DBAPIError, match="append-only"):
        connection.execute(sa.text(change))


def test_the_tables_say_which_revision_has_them() -> None:
    config = Config()
    config.set_main_option("script_location", SCRIPTS)
    assert ScriptDirectory.from_config(config).get_current_head() == SCHEMA_REVISION


def test_names_of_revisions_tell_their_order() -> None:
    """`/v1/readiness` compares them: functions do not have the migrations with them."""
    config = Config()
    config.set_main_option("script_location", SCRIPTS)
    latest_first = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert latest_first == sorted(latest_first, key=revision_order, reverse=True)
    assert len({revision_order(revision) for revision in latest_first}) == len(latest_first)


@pytest.mark.parametrize(("earlier", "later"), [("0006", "0006b"), ("0006b", "0007"), ("9999", "10000")])
def test_revisions_are_ordered_by_number_and_then_by_letter(earlier: str, later: str) -> None:
    assert revision_order(earlier) < revision_order(later)


@pytest.mark.parametrize("foreign", [None, "", "zzzz", "1975ea83b712", "9999 ", "0006B"])
def test_database_of_another_application_has_not_these_tables(foreign: str | None) -> None:
    assert not has_these_tables(foreign)


def test_migrated_tables_have_the_storage_settings_of_the_tables_in_code(connection: sa.Connection) -> None:
    stored = {
        name: dict(option.split("=") for option in options or [])
        for name, options in connection.execute(
            sa.text("SELECT relname, reloptions FROM pg_class WHERE relnamespace = 'public'::regnamespace")
        )
    }
    for table in metadata.sorted_tables:
        in_code = table.dialect_options["postgresql"]["with"] or {}
        assert stored[table.name] == {name: str(value) for name, value in in_code.items()}, table.name


# Alembic compares neither of these: https://alembic.sqlalchemy.org/en/latest/autogenerate.html
CONDITIONS = {
    "CHECK constraints": """
        SELECT conrelid::regclass::text AS of_table, conname AS name, pg_get_constraintdef(oid) AS definition
        FROM pg_constraint WHERE contype = 'c' AND connamespace = CAST(:schema AS regnamespace)
    """,
    "conditions of indexes": """
        SELECT indrelid::regclass::text, indexrelid::regclass::text, pg_get_expr(indpred, indrelid)
        FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
        WHERE indpred IS NOT NULL AND relnamespace = CAST(:schema AS regnamespace)
    """,
}


@pytest.mark.parametrize("kind", CONDITIONS)
def test_migrated_conditions_equal_those_of_the_tables_in_code(connection: sa.Connection, kind: str) -> None:
    """The tables in code are created in a schema of their own, so that PostgreSQL prints both in the same words."""
    connection.execute(sa.text("CREATE SCHEMA in_code"))
    connection.execute(sa.text("SET LOCAL search_path = in_code, public"))
    metadata.create_all(connection, checkfirst=False)
    query = sa.text(CONDITIONS[kind])
    in_code = {*connection.execute(query, {"schema": "in_code"})}
    connection.execute(sa.text("SET LOCAL search_path = public"))
    migrated = {*connection.execute(query, {"schema": "public"})}
    connection.rollback()
    assert in_code
    assert migrated == in_code
