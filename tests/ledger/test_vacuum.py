"""A database whose dead rows nobody removes is noticed before it is slow, and long before it takes no writes."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from sendledger.ledger import vacuum
from sendledger.ledger.vacuum import VacuumBehind, vacuum_behind
from testbed.campaigns import make_campaign
from testbed.databases import wait_until


def test_a_database_that_is_vacuumed_is_not_behind(sender_engine: sa.Engine) -> None:
    with sender_engine.connect() as connection:
        assert vacuum_behind(connection) is None


def test_a_table_that_is_mostly_dead_rows_is_named(
    engine: sa.Engine, sender_engine: sa.Engine, connection: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vacuum, "FEW_DEAD_ROWS", 10)
    connection.execute(sa.text("ALTER TABLE leads SET (autovacuum_enabled = off)"))
    make_campaign(connection, 20)
    connection.execute(sa.text("UPDATE leads SET city = 'Porto'"))
    connection.commit()
    connection.execute(sa.text("SELECT pg_stat_force_next_flush()"))
    connection.commit()
    wait_until(engine, "(SELECT n_dead_tup > 10 FROM pg_stat_user_tables WHERE relname = 'leads')")
    with sender_engine.connect() as opened:
        behind = vacuum_behind(opened)
    assert behind is not None
    assert behind.tables == ["leads"]


def test_old_transactions_are_noticed(connection: sa.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    age = connection.scalar(sa.text("SELECT age(datfrozenxid) FROM pg_database WHERE datname = current_database()"))
    monkeypatch.setattr(vacuum, "MOST_TRANSACTIONS", age - 1)
    assert vacuum_behind(connection) == VacuumBehind(age, [])
