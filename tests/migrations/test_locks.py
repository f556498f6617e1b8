"""Migrations of a large ledger: senders work on while it is read, and one that was interrupted can be repeated."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from testbed.databases import SCRIPTS

READS_THE_LEDGER = re.compile(
    r"VALIDATE CONSTRAINT scheduled_emails|UPDATE scheduled_emails SET"
    r"|CREATE (UNIQUE )?INDEX (CONCURRENTLY )?\w+ ON scheduled_emails"
)
WRITERS_WAIT = sa.text("""
    SELECT mode FROM pg_locks WHERE pid = :pid AND relation = 'scheduled_emails'::regclass AND granted
       AND mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
""")

# Tables that a function at work writes to, and whose lock this session holds so that it has to wait.
HELD = sa.text("""
    SELECT DISTINCT c.relname FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
    WHERE l.pid = :pid AND l.granted
      AND c.relname IN ('campaigns', 'leads', 'scheduled_emails', 'emails', 'email_events')
      AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
""")


def test_no_migration_since_0023_reads_the_ledger_while_its_writers_wait(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", SCRIPTS)
    command.downgrade(config, "0023")
    connection.commit()
    pid = connection.scalar(sa.text("SELECT pg_backend_pid()"))
    connection.commit()
    seen: list[str] = []
    blocking: list[tuple[Sequence[str], str]] = []
    with engine.connect() as watching:

        def look(_connection: sa.Connection, _cursor: Any, statement: str, *_: Any) -> None:
            if "CREATE OR REPLACE FUNCTION" in statement or not READS_THE_LEDGER.search(statement):
                return
            seen.append(statement)
            locks = watching.scalars(WRITERS_WAIT, {"pid": pid}).all()
            watching.rollback()
            # Several statements in one string are one transaction.
            others = ";" in statement.strip().rstrip(";")
            if locks or others or ("INDEX" in statement and "CONCURRENTLY" not in statement):
                blocking.append((locks, statement))

        sa.event.listen(connection, "before_cursor_execute", look)
        command.upgrade(config, "head")
        sa.event.remove(connection, "before_cursor_execute", look)
    assert len(seen) >= 7
    assert blocking == []


def test_no_migration_since_0067_can_deadlock_with_functions_at_work(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    """They lock the same tables in another order, so it holds the lock of one at a time."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", SCRIPTS)
    command.downgrade(config, "0067")
    connection.commit()
    pid = connection.scalar(sa.text("SELECT pg_backend_pid()"))
    connection.commit()
    held: list[tuple[Sequence[str], str]] = []
    with engine.connect() as watching:

        def look(_connection: sa.Connection, _cursor: Any, statement: str, *_: Any) -> None:
            held.append((watching.scalars(HELD, {"pid": pid}).all(), statement))
            watching.rollback()

        sa.event.listen(connection, "after_cursor_execute", look)
        command.upgrade(config, "head")
        sa.event.remove(connection, "after_cursor_execute", look)
    assert any(tables for tables, _ in held)
    assert [each for each in held if len(each[0]) > 1] == []


def test_totals_are_unique_while_a_migration_that_was_interrupted_before_its_end_is_repeated(
    connection: sa.Connection,
) -> None:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", SCRIPTS)
    command.downgrade(config, "0066")
    command.stamp(config, "0065")
    connection.execute(sa.text("ALTER INDEX campaign_counts_total_key RENAME TO campaign_counts_total_key_next"))
    connection.commit()
    unique: list[int] = []
    count = """
        SELECT count(*) FROM pg_index WHERE indrelid = 'campaign_counts'::regclass AND indisunique AND NOT indisprimary
    """

    def look(executed: sa.Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if "campaign_counts_total_key" in statement:
            unique.append(executed.exec_driver_sql(count).scalar_one())

    sa.event.listen(connection, "after_cursor_execute", look)
    command.upgrade(config, "0066")
    sa.event.remove(connection, "after_cursor_execute", look)
    assert unique == [1, 1, 2, 1, 1]
    command.upgrade(config, "head")
    command.check(config)
