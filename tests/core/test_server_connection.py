"""A statement is one wait for the server, a BEGIN none of its own, and both are as safe as if they were waited for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pg8000
import pytest
import sqlalchemy as sa

from sendledger.core import server_connection
from sendledger.core.server_connection import ServerConnection

FOREVER = 1e9


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statement of each wait for an answer of the server, from now on."""
    found: list[str] = []
    wait = ServerConnection.handle_messages

    def counted(self: ServerConnection, context: Any) -> None:
        found.append(context.statement)
        wait(self, context)

    monkeypatch.setattr(ServerConnection, "handle_messages", counted)
    return found


@pytest.fixture
def raw(engine: sa.Engine) -> Iterator[ServerConnection]:
    """A connection as SQLAlchemy has it, with a table `t` of its own."""
    pooled = engine.raw_connection()
    connection = pooled.driver_connection
    assert isinstance(connection, ServerConnection)
    connection.cursor().execute("CREATE TEMPORARY TABLE t (x int) ON COMMIT PRESERVE ROWS")
    connection.commit()
    yield connection
    connection.rollback()
    pooled.close()


def numbers(connection: ServerConnection) -> list[int]:
    found = connection.cursor().execute("SELECT x FROM t ORDER BY x").fetchall()
    connection.rollback()
    return [row[0] for row in found]


def test_transaction_waits_once_for_each_statement_and_once_for_its_end(
    engine: sa.Engine, waits: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_connection, "SURELY_ALIVE_SECONDS", FOREVER)
    statement = sa.text("SELECT CAST(:x AS int)")
    with engine.connect() as connection:
        connection.execute(statement, {"x": 0})
    waits.clear()
    with engine.begin() as connection:
        assert connection.execute(statement, {"x": 1}).scalar_one() == 1
        assert connection.execute(sa.text("SELECT 2")).scalar_one() == 2
    assert [each.partition(" ")[0] for each in waits] == ["SELECT", "SELECT", "commit"]
    waits.clear()
    with engine.begin() as connection:
        assert connection.execute(sa.text("SELECT 3")).scalar_one() == 3
    assert waits == ["begin transaction; SELECT 3", "commit"]


def test_connection_is_asked_whether_it_works_if_it_was_not_used_for_a_while(
    engine: sa.Engine, waits: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for seconds, asked in ((FOREVER, False), (0.0, True)):
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT 2"))
        monkeypatch.setattr(server_connection, "SURELY_ALIVE_SECONDS", seconds)
        waits.clear()
        engine.connect().close()
        assert ("SELECT 1" in waits) is asked


@pytest.mark.parametrize("seconds", [0.0, FOREVER])
def test_connection_that_the_server_has_ended_is_replaced(
    engine: sa.Engine, connection: sa.Connection, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_connection, "SURELY_ALIVE_SECONDS", seconds)
    connection.execute(sa.text("SELECT 1"))
    with engine.connect() as other:
        victim = other.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
    connection.execute(sa.text("SELECT pg_terminate_backend(:pid, 60000)"), {"pid": victim})
    with engine.connect() as other:
        assert other.execute(sa.text("SELECT pg_backend_pid()")).scalar_one() != victim


@pytest.mark.parametrize(
    ("statement", "values"), [("INSERT INTO t VALUES (1)", ()), ("INSERT INTO t VALUES (%s)", (1,))]
)
def test_first_statement_is_in_its_transaction(raw: ServerConnection, statement: str, values: tuple[int, ...]) -> None:
    raw.cursor().execute(statement, values)
    raw.rollback()
    assert numbers(raw) == []
    raw.cursor().execute(statement, values)
    raw.commit()
    assert numbers(raw) == [1]


@pytest.mark.parametrize(
    ("statement", "values"), [("INSERT INTO t VALUES (1)", ()), ("INSERT INTO t VALUES (%s)", (1,))]
)
def test_statement_does_not_run_if_its_begin_has_failed(
    raw: ServerConnection, statement: str, values: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = raw.execute_unnamed if values else raw.execute_simple
    raw.execute_simple("begin transaction")
    with monkeypatch.context() as patched:
        patched.setattr(server_connection, "_BEGIN", "begin nonsense")
        with pytest.raises(pg8000.DatabaseError):
            execute(statement.replace("%s", "$1"), *([values] if values else []))
    assert numbers(raw) == []


def test_statement_after_one_that_could_not_be_sent_is_in_its_own_transaction(raw: ServerConnection) -> None:
    with pytest.raises(UnicodeEncodeError):
        raw.cursor().execute("SELECT CAST(%s AS text)", ("\ud800",))
    raw.rollback()
    raw.autocommit = True
    raw.cursor().execute("INSERT INTO t VALUES (%s)", (1,))
    raw.autocommit = False
    raw.rollback()
    assert numbers(raw) == [1]


def test_error_of_a_statement_leaves_the_connection_in_step(raw: ServerConnection) -> None:
    for statement, values in (("SELECT 1 / %s", (0,)), ("SELECT %s FROM nothing", (1,)), ("SELECT 1 / 0", ())):
        with pytest.raises(pg8000.DatabaseError):
            raw.cursor().execute(statement, values)
        raw.rollback()
        assert raw.cursor().execute("SELECT CAST(%s AS int), NULL, %s", (7, None)).fetchall() == ([7, None, None],)


def test_statement_without_an_answer_is_no_error(raw: ServerConnection) -> None:
    cursor = raw.cursor().execute("INSERT INTO t SELECT n FROM generate_series(1, CAST(%s AS int)) n", (3,))
    assert cursor.rowcount == 3
    cursor = raw.cursor().execute("SET LOCAL application_name = 'x'")
    assert cursor.description is None
