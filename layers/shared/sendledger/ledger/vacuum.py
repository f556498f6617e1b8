"""Whether PostgreSQL's own vacuum keeps up, asked with each tick. Reads the statistics of PostgreSQL, and no table."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

MOST_TRANSACTIONS = 500_000_000
"""Autovacuum begins to freeze at 200 million. At 2 billion PostgreSQL takes no writes any more.

https://www.postgresql.org/docs/current/routine-vacuuming.html#VACUUM-FOR-WRAPAROUND
"""
FEW_DEAD_ROWS = 100_000
"""A table with fewer dead rows is small, or is being vacuumed often."""
MOST_DEAD = 0.3
"""The part of a table's rows that may be dead. Hot tables are vacuumed at 5 %, others at 20 %."""

_STATISTICS = sa.text("""
    SELECT (SELECT age(datfrozenxid) FROM pg_database WHERE datname = current_database()) AS transactions,
           ARRAY(SELECT CAST(relname AS text) FROM pg_stat_user_tables
                 WHERE n_dead_tup > :few AND n_dead_tup > CAST(:most AS float8) * (n_live_tup + n_dead_tup)
                 ORDER BY relname) AS tables
""")


@dataclass(frozen=True)
class VacuumBehind:
    """What vacuum should have done: freeze old rows, or remove the dead rows of these tables."""

    unfrozen_transactions: int
    tables: list[str]


def vacuum_behind(connection: sa.Connection) -> VacuumBehind | None:
    """None while vacuum keeps up."""
    limits = {"few": FEW_DEAD_ROWS, "most": MOST_DEAD}
    transactions, tables = connection.execute(_STATISTICS, limits).one()
    return VacuumBehind(transactions, tables) if transactions > MOST_TRANSACTIONS or tables else None
