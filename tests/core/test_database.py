"""A connection that has lost its link, or its place in the conversation, is not used again."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from sendledger.core import database
from sendledger.core.settings import DatabaseSettings


def test_value_that_cannot_be_encoded_leaves_no_connection_out_of_step(engine: sa.Engine) -> None:
    for number in range(3):
        with engine.connect() as connection:
            assert connection.execute(sa.text("SELECT CAST(:x AS int)"), {"x": number}).scalar_one() == number
        with pytest.raises(UnicodeEncodeError), engine.connect() as connection:
            connection.execute(sa.text("SELECT CAST(:x AS text), 1"), {"x": "\ud800"})


def test_connection_that_the_server_has_ended_is_replaced(engine: sa.Engine, connection: sa.Connection) -> None:
    connection.execute(sa.text("SELECT 1"))
    with engine.connect() as other:
        victim = other.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
    connection.execute(sa.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": victim})
    with engine.connect() as other:
        assert other.execute(sa.text("SELECT pg_backend_pid()")).scalar_one() != victim


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
