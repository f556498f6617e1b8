"""A sender's lock survives a lost connection, and a sender that has none left ends in good order."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
import sqlalchemy as sa

from sendledger.ledger.senders import LivingSender
from testbed.databases import wait_until

A_CAMPAIGN = uuid.UUID(int=1)


def let_in(engine: sa.Engine, most: int) -> None:
    """At most so many connections of other users than the owner; -1 is no limit."""
    with engine.begin() as connection:
        name = connection.scalar(sa.text("SELECT quote_ident(current_database())"))
        connection.execute(sa.text(f"ALTER DATABASE {name} CONNECTION LIMIT {most}"))


def locks(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return (
            connection.scalar(
                sa.text("""
                    SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database
                    WHERE locktype = 'advisory' AND datname = current_database()
                """)
            )
            or 0
        )


def cut_all_senders_off(engine: sa.Engine) -> None:
    """End every session on this database but the caller's own."""
    others = "FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
    with engine.begin() as connection:
        assert connection.execute(sa.text(f"SELECT pg_terminate_backend(pid) {others}")).rowcount
    wait_until(engine, f"NOT EXISTS (SELECT {others})")


def rows(engine: sa.Engine) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.scalars(sa.text("SELECT preparing FROM senders ORDER BY token")))


def test_sender_takes_its_lock_again_after_its_connection_was_lost(engine: sa.Engine, sender_engine: sa.Engine) -> None:
    sender = LivingSender(sender_engine, uuid.uuid4())
    cut_all_senders_off(engine)
    sender.prepares([A_CAMPAIGN])
    assert (locks(engine), rows(engine)) == (1, [[A_CAMPAIGN]])
    sender.leave()
    assert (locks(engine), rows(engine)) == (0, [])


def test_sender_that_cannot_reconnect_logs_it_and_ends_normally(engine: sa.Engine, sender_engine: sa.Engine) -> None:
    sender = LivingSender(sender_engine, uuid.uuid4())
    cut_all_senders_off(engine)
    let_in(engine, 0)
    with pytest.raises(sa.exc.DBAPIError):
        sender.prepares([A_CAMPAIGN])
    sender.leave()
    assert sender_engine.pool.checkedout() == 0  # type: ignore[attr-defined]


def test_sender_that_could_not_reconnect_tries_again(engine: sa.Engine, sender_engine: sa.Engine) -> None:
    sender = LivingSender(sender_engine, uuid.uuid4())
    cut_all_senders_off(engine)
    let_in(engine, 0)
    with pytest.raises(sa.exc.DBAPIError):
        sender.prepares([A_CAMPAIGN])
    let_in(engine, -1)
    sender.prepares([A_CAMPAIGN])
    assert (locks(engine), rows(engine)) == (1, [[A_CAMPAIGN]])
    sender.leave()


def test_sender_whose_connection_was_lost_ends_in_good_order(engine: sa.Engine, sender_engine: sa.Engine) -> None:
    sender = LivingSender(sender_engine, uuid.uuid4())
    cut_all_senders_off(engine)
    sender.leave()
    assert sender_engine.pool.checkedout() == 0  # type: ignore[attr-defined]
