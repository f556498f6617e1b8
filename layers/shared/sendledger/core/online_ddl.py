"""Changes of large tables that block neither readers nor writers, for migrations."""

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
