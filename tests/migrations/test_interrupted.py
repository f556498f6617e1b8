"""Migrations that are interrupted: an upgrade is repeated as a whole, a downgrade has changed nothing."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import Script, ScriptDirectory

from testbed.databases import SCRIPTS

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
def config(monkeypatch: pytest.MonkeyPatch) -> Config:
    """For Alembic's commands, which read the files of the revisions once."""
    found = Config()
    found.set_main_option("script_location", SCRIPTS)
    script = ScriptDirectory.from_config(found)
    monkeypatch.setattr(ScriptDirectory, "from_config", lambda _config: script)
    return found


def schema(engine: sa.Engine) -> set[tuple[Any, ...]]:
    with engine.connect() as connection:
        return {tuple(row) for row in connection.execute(SCHEMA)}


def migrate(
    engine: sa.Engine, config: Config, migration: Callable[[Config, str], None], target: str, dies_at: int | None = None
) -> list[str]:
    """Run a command on a connection of its own. Returns its statements and commits. With `dies_at` it dies before the
    statement with this number."""
    done: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if dies_at is not None and len(done) >= dies_at:
            raise Interrupted
        done.append(statement)

    with engine.connect() as connection:
        config.attributes["connection"] = connection
        sa.event.listen(connection, "before_cursor_execute", note)
        sa.event.listen(connection, "commit", lambda _: done.append("commit"))
        try:
            migration(config, target)
        except (Interrupted, sa.exc.PendingRollbackError):  # the second where Alembic would still commit
            assert dies_at is not None
            connection.invalidate()
            connection.close()
        else:
            assert dies_at is None
            connection.commit()
    return done


def has_several_transactions(script: Script) -> bool:
    return bool(re.search(r"(outside_of_a_transaction|one_lock_at_a_time)\(", inspect.getsource(script.module.upgrade)))


def test_upgrade_that_is_interrupted_before_its_revision_is_noted_is_repeated(
    engine: sa.Engine, config: Config
) -> None:
    several = [each for each in ScriptDirectory.from_config(config).walk_revisions() if has_several_transactions(each)]
    assert len(several) > 20
    for revision, before in [(each.revision, str(each.down_revision)) for each in several]:
        migrate(engine, config, command.downgrade, before)
        done = migrate(engine, config, command.upgrade, revision)
        assert "COMMIT" in done
        whole = schema(engine)
        migrate(engine, config, command.downgrade, before)
        noted = max(number for number, each in enumerate(done) if NOTED.match(each))
        migrate(engine, config, command.upgrade, revision, dies_at=noted)
        migrate(engine, config, command.upgrade, revision)
        assert schema(engine) == whole, revision


def test_downgrade_of_each_revision_is_one_transaction(engine: sa.Engine, config: Config) -> None:
    """Interrupted, it has changed nothing: its only commit is the one that notes the revision before."""
    done = migrate(engine, config, command.downgrade, "base")
    assert "COMMIT" not in done
    _, *commits = (number for number, each in enumerate(done) if each == "commit")
    assert len(commits) > 80
    assert [done[number - 1] for number in commits if not NOTED.match(done[number - 1])] == []
