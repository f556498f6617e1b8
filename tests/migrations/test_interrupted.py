"""Migrations that are interrupted: an upgrade is repeated as a whole, a downgrade has changed nothing."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import Script, ScriptDirectory

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


def has_several_transactions(script: Script) -> bool:
    return bool(re.search(r"(outside_of_a_transaction|one_lock_at_a_time)\(", inspect.getsource(script.module.upgrade)))


def test_upgrade_that_is_interrupted_between_its_transactions_is_repeated(
    connection: sa.Connection, config: Config
) -> None:
    """In their middle, and before its revision is noted."""
    several = [each for each in ScriptDirectory.from_config(config).walk_revisions() if has_several_transactions(each)]
    assert len(several) > 20
    for revision, before in [(each.revision, str(each.down_revision)) for each in several]:
        command.downgrade(config, revision)
        whole = schema(connection)
        command.downgrade(config, before)
        with dying(connection) as statements:
            command.upgrade(config, revision)
        assert schema(connection) == whole, revision
        first, last = statements.index("COMMIT"), len(statements) - 1
        assert NOTED.match(statements[last])
        for number in ((first + last) // 2, last):
            command.downgrade(config, before)
            with dying(connection, number), pytest.raises(Interrupted):
                command.upgrade(config, revision)
            connection.invalidate()
            connection.rollback()
            command.upgrade(config, revision)
            assert schema(connection) == whole, (revision, statements[number])


def test_downgrade_of_each_revision_is_one_transaction(connection: sa.Connection, config: Config) -> None:
    """Interrupted, it has changed nothing: its only commit is the one that notes the revision before."""
    with dying(connection) as statements:
        sa.event.listen(connection, "commit", lambda _: statements.append("commit"))
        command.downgrade(config, "base")
    assert "COMMIT" not in statements
    _, *commits = (number for number, statement in enumerate(statements) if statement == "commit")
    assert len(commits) > 80
    assert [statements[number - 1] for number in commits if not NOTED.match(statements[number - 1])] == []
