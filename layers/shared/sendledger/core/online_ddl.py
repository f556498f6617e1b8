"""Changes of large tables that block neither readers nor writers, for upgrades, and of indexes for downgrades.

An upgrade of several transactions notes its revision in the last one, so it is repeated as a whole if it was
interrupted, and each of its statements can be repeated. A downgrade is one transaction: interrupted, it has changed
nothing. If it were several, an upgrade would not make again what the first of them have undone: the revision still
counts as applied.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import sqlalchemy as sa
from alembic import op

LONGEST_WAIT = "10min"
"""A concurrent build waits for transactions that are older than itself, and blocks nobody while it does."""


def outside_of_a_transaction(*statements: str) -> None:
    """Run each statement by itself. What the migration has done before is committed."""
    with op.get_context().autocommit_block():
        # Alembic asks for the isolation level as it enters the block, and with pg8000 that opens a transaction.
        op.execute("COMMIT")
        lock_timeout = op.get_bind().scalar(sa.text("SHOW lock_timeout"))
        op.execute("COMMIT")
        op.execute(f"SET lock_timeout = '{LONGEST_WAIT}'")
        for statement in statements:
            op.execute(statement)
        op.execute(f"SET lock_timeout = '{lock_timeout}'")


def one_lock_at_a_time(*statements: str) -> None:
    """Run each statement by itself, as those that others wait for: it gives up soon if it does not get its lock.

    Functions at work lock the same tables in another order. A migration that held one of their locks while it waited
    for the next would deadlock with them.
    """
    with op.get_context().autocommit_block():
        op.execute("COMMIT")
        for statement in statements:
            op.execute(statement)


def creation(indexes: Mapping[str, str]) -> list[str]:
    """The statements that build indexes, given by name and `table (columns)`."""
    return [
        statement
        for name, columns in indexes.items()
        for statement in (
            # An interrupted concurrent build leaves an invalid index behind; IF NOT EXISTS would keep it.
            f"DROP INDEX CONCURRENTLY IF EXISTS {name}",
            f"CREATE INDEX CONCURRENTLY {name} ON {columns}",
        )
    ]


def removal(indexes: Iterable[str]) -> list[str]:
    """The statements that drop indexes of these names."""
    return [f"DROP INDEX CONCURRENTLY IF EXISTS {name}" for name in indexes]


def exchange_indexes(dropped: Iterable[str], created: Mapping[str, str] | None = None) -> None:
    """For downgrades: drop indexes and build others in the transaction of the migration. Writers wait meanwhile."""
    for name, columns in (created or {}).items():
        # Somebody who went back to the release before may have built it; see docs/operations/upgrade.md.
        op.execute(f"DROP INDEX IF EXISTS {name}")
        op.execute(f"CREATE INDEX {name} ON {columns}")
    for name in dropped:
        op.execute(f"DROP INDEX IF EXISTS {name}")
