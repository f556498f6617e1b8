"""Migrations that are interrupted: an upgrade is repeated as a whole, a downgrade has changed nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from testbed.databases import MIGRATIONS

NOTED = re.compile(r"(UPDATE|DELETE FROM|INSERT INTO) alembic_version")
SCHEMA = sa.text("""
    SELECT 'column', attrelid::regclass::text, attname, concat_ws(' ', format_type(atttypid, atttypmod), attnotnull,
           pg_get_expr(adbin, adrelid))
    FROM pg_attribute JOIN pg_class c ON c.oid = attrelid LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE relnamespace = 'public'::regnamespace AND attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid)
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'index', indrelid::regclass::text, indexrelid::regclass::text, pg_get_indexdef(indexrelid) || indisvalid
    FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid WHERE relnamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'trigger', tgrelid::regclass::text, tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL
    SELECT 'function', '', proname, pg_get_functiondef(oid)
    FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'storage', '', relname, reloptions::text FROM pg_class WHERE relnamespace = 'public'::regnamespace
""")


class Interrupted(Exception):
    pass


@pytest.fixture
def config(connection: sa.Connection, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Alembic's commands on this connection. They read the files of the revisions once."""
    found = Config(attributes={"connection": connection})
    found.set_main_option("script_location", str(MIGRATIONS))
    script = ScriptDirectory.from_config(found)
    monkeypatch.setattr(ScriptDirectory, "from_config", lambda _config: script)
    return found


def schema(connection: sa.Connection) -> set[tuple[Any, ...]]:
    found = {tuple(row) for row in connection.execute(SCHEMA)}
    connection.rollback()
    return found


@contextmanager
def dying(connection: sa.Connection, at: int | None = None) -> Iterator[list[str]]:
    """Collects the statements, and raises Interrupted before the one with this number."""
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)
        if len(statements) - 1 == at:
            raise Interrupted

    sa.event.listen(connection, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        sa.event.remove(connection, "before_cursor_execute", note)


def test_upgrade_that_is_interrupted_between_its_transactions_is_repeated(
    connection: sa.Connection, config: Config
) -> None:
    """At each statement of each revision that has several transactions."""
    interrupted = []
    revisions = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    for revision, before in zip(revisions, [*revisions[1:], "base"], strict=True):
        whole = schema(connection)
        command.downgrade(config, before)
        connection.commit()
        with dying(connection) as statements:
            command.upgrade(config, revision)
        connection.commit()
        assert schema(connection) == whole, revision
        if "COMMIT" in statements:
            interrupted.append(revision)
        for number in range(
            statements.index("COMMIT") if revision in interrupted else len(statements), len(statements)
        ):
            command.downgrade(config, before)
            connection.commit()
            with dying(connection, number), pytest.raises(Interrupted):
                command.upgrade(config, revision)
            connection.invalidate()
            connection.rollback()
            command.upgrade(config, revision)
            connection.commit()
            assert schema(connection) == whole, (revision, statements[number])
        command.downgrade(config, before)
        connection.commit()
    assert len(interrupted) > 20


def test_downgrade_of_each_revision_is_one_transaction(connection: sa.Connection, config: Config) -> None:
    """Interrupted, it has changed nothing. It commits only what notes the revision before."""
    with dying(connection) as statements:
        sa.event.listen(connection, "commit", lambda _: statements.append("commit"))
        command.downgrade(config, "base")
    commits = [number for number, statement in enumerate(statements) if statement.lower() == "commit"]
    assert len(commits) > 80
    assert [statements[number - 1] for number in commits if not NOTED.match(statements[number - 1])] == []
