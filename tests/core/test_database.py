"""A connection that has lost its link, or its place in the conversation, is not used again."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from local.postgres import Postgres, as_user
from sendledger.core import database
from sendledger.core.settings import DatabaseSettings
from testbed.databases import wait_until


def test_value_that_cannot_be_encoded_leaves_no_connection_out_of_step(engine: sa.Engine) -> None:
    for number in range(3):
        with engine.connect() as connection:
            assert connection.execute(sa.text("SELECT CAST(:x AS int)"), {"x": number}).scalar_one() == number
        with pytest.raises(UnicodeEncodeError), engine.connect() as connection:
            connection.execute(sa.text("SELECT CAST(:x AS text), 1"), {"x": "\ud800"})


def test_an_idle_session_is_ended_and_replaced(
    engine: sa.Engine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "IDLE_SESSION", 2.0)
    idling = database.engine(DatabaseSettings.read({"DATABASE_URL": database_url}), pool_size=1)
    with idling.connect() as connection:
        first = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
    wait_until(engine, "NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = :pid)", pid=first)
    with idling.connect() as connection:
        assert connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one() != first
    idling.dispose()


def test_a_transaction_that_waited_too_long_is_a_lost_connection(
    engine: sa.Engine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LONGEST_PAUSE", 0.2)
    pausing = database.engine(DatabaseSettings.read({"DATABASE_URL": database_url}), pool_size=1)
    with pausing.connect() as connection:
        pid = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
        wait_until(engine, "NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = :pid)", pid=pid)
        with pytest.raises(sa.exc.DBAPIError) as caught:
            connection.execute(sa.text("SELECT 1"))
    assert database.is_transient(caught.value)
    with pausing.connect() as connection:
        assert connection.execute(sa.text("SELECT 1")).scalar_one() == 1
    pausing.dispose()


def test_database_that_its_operator_has_made_read_only_is_not_written_to(engine: sa.Engine, database_url: str) -> None:
    with engine.begin() as connection:
        name = connection.scalar(sa.text("SELECT quote_ident(current_database())"))
        connection.execute(sa.text(f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
    later = database.engine(DatabaseSettings.read({"DATABASE_URL": database_url}))
    with pytest.raises(sa.exc.ProgrammingError, match="25006"), later.begin() as connection:
        connection.execute(sa.text("DELETE FROM suppressions"))
    later.dispose()


def test_a_refused_login_is_reported_as_such(postgres: Postgres) -> None:
    nobody = as_user(postgres.url(), "nobody_at_all")
    with pytest.raises(sa.exc.DBAPIError) as caught:
        database.engine(DatabaseSettings.read({"DATABASE_URL": nobody})).connect()
    assert database.sqlstate(caught.value) == "28000"
    assert database.server_message(caught.value) == 'role "nobody_at_all" does not exist'


def test_unreachable_database_is_an_error_of_the_database_and_passes() -> None:
    engine = database.engine(DatabaseSettings.read({"DATABASE_URL": "postgresql://postgres@127.0.0.1:9/x"}))
    with pytest.raises(sa.exc.InterfaceError) as caught:
        engine.connect()
    assert database.is_transient(caught.value)


def test_deadlock_passes_and_a_broken_rule_does_not(engine: sa.Engine) -> None:
    for statement, passes in (
        ("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40P01'; END $$", True),
        ("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '57P01'; END $$", True),
        ("SELECT 1 / 0", False),
        ("SELECT FROM nothing", False),
    ):
        with pytest.raises(sa.exc.DBAPIError) as caught, engine.connect() as connection:
            connection.execute(sa.text(statement))
        assert database.is_transient(caught.value) is passes
