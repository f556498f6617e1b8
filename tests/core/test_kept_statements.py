"""Connections ask the server once for each statement, and the server keeps the plans of those that are marked."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from pg8000 import core

from sendledger.core import kept_statements
from sendledger.core.kept_statements import KEPT

_SEVENTH = sa.text(f"{KEPT} SELECT 7 / CAST(:divisor AS integer)")
_PREPARED = sa.text("SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement LIKE '/* kept */%'")


@pytest.fixture(autouse=True)
def for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are kept however slow the machine is."""
    monkeypatch.setattr(kept_statements, "KEPT_SECONDS", 1e9)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Has one entry for each time that a connection sends what it has written, and waits for the answer."""
    times: list[object] = []
    flush = core._flush

    def counted(sock: object) -> None:
        times.append(sock)
        flush(sock)

    monkeypatch.setattr(core, "_flush", counted)
    return times


def test_kept_statement_is_parsed_and_planned_once(connection: sa.Connection) -> None:
    for _ in range(3):
        assert [connection.scalar(_SEVENTH, {"divisor": 7}) for _ in range(2)] == [1, 1]
        connection.commit()
    assert connection.execute(_PREPARED).all() == [(6, 0)]


def test_kept_statement_without_parameters_is_kept(connection: sa.Connection) -> None:
    for _ in range(3):
        assert connection.scalar(sa.text(f"{KEPT} SELECT 7")) == 7
        connection.commit()
    assert connection.execute(_PREPARED).all() == [(3, 0)]


def test_other_statements_of_other_transactions_are_planned_for_their_values(connection: sa.Connection) -> None:
    connection.scalar(_SEVENTH, {"divisor": 7})
    connection.commit()
    assert connection.scalar(sa.text("SELECT current_setting(:name)"), {"name": "plan_cache_mode"}) == "auto"


def test_statement_after_a_kept_one_is_planned_for_its_values_too(connection: sa.Connection) -> None:
    usual = "SELECT current_setting(CAST(:name AS text))"
    kept = f"{KEPT} {usual}"
    statements = (usual, kept, usual, usual, kept, kept, usual)
    modes = [connection.scalar(sa.text(each), {"name": "plan_cache_mode"}) for each in statements]
    assert modes == ["force_generic_plan" if each is kept else "auto" for each in statements]


def test_statement_without_the_mark_is_not_kept(connection: sa.Connection) -> None:
    connection.scalar(sa.text("SELECT CAST(:number AS integer)"), {"number": 7})
    assert connection.execute(sa.text("SELECT count(*) FROM pg_prepared_statements")).scalar_one() == 0


def test_kept_statement_is_parsed_anew_after_a_while(
    connection: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With it goes the plan, which may be one for tables that were small."""
    monkeypatch.setattr(kept_statements, "KEPT_SECONDS", -1.0)
    for _ in range(9):
        connection.scalar(_SEVENTH, {"divisor": 7})
    assert connection.execute(_PREPARED).all() == [(1, 0)]


def test_kept_statement_works_after_an_error_in_it(connection: sa.Connection) -> None:
    connection.scalar(_SEVENTH, {"divisor": 7})
    with pytest.raises(sa.exc.ProgrammingError, match="22012"):
        connection.scalar(_SEVENTH, {"divisor": 0})
    connection.rollback()
    assert connection.scalar(_SEVENTH, {"divisor": 1}) == 7
    assert connection.execute(_PREPARED).all() == [(1, 0)]


def test_kept_statement_works_after_its_table_was_changed(connection: sa.Connection) -> None:
    connection.execute(sa.text("CREATE TEMPORARY TABLE numbers (number integer)"))
    statement = sa.text(f"{KEPT} INSERT INTO numbers VALUES (:number) RETURNING *")
    for number in range(7):
        connection.execute(statement, {"number": number})
    connection.execute(sa.text("ALTER TABLE numbers ADD CHECK (number < 10)"))
    with pytest.raises(sa.exc.ProgrammingError, match="23514"):
        connection.execute(statement, {"number": 10})


def test_statements_of_a_transaction_are_undone_together(connection: sa.Connection) -> None:
    connection.execute(sa.text("CREATE TEMPORARY TABLE numbers (number integer)"))
    connection.commit()
    statement = sa.text("INSERT INTO numbers VALUES (:number)")
    connection.execute(statement, {"number": 1})
    connection.execute(statement, {"number": 2})
    connection.rollback()
    assert connection.scalar(sa.text("SELECT count(*) FROM numbers")) == 0


def test_transaction_ends_with_an_error_in_its_first_statement(connection: sa.Connection) -> None:
    with pytest.raises(sa.exc.ProgrammingError, match="22012"):
        connection.scalar(sa.text("SELECT 1 / CAST(:divisor AS integer)"), {"divisor": 0})
    with pytest.raises(sa.exc.ProgrammingError, match="25P02"):
        connection.scalar(sa.text("SELECT CAST(:divisor AS integer)"), {"divisor": 1})
    connection.rollback()
    assert connection.scalar(sa.text("SELECT CAST(:divisor AS integer)"), {"divisor": 1}) == 1


def test_each_statement_of_an_autocommit_connection_stays(engine: sa.Engine) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("CREATE TABLE numbers (number integer)"))
        connection.execute(sa.text("INSERT INTO numbers VALUES (:number)"), {"number": 1})
        connection.rollback()
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM numbers")) == 1


def test_statement_with_parameters_asks_the_server_once_and_begins_its_transaction_too(
    connection: sa.Connection, asked: list[object]
) -> None:
    connection.rollback()
    asked.clear()
    for _ in range(3):
        connection.scalar(_SEVENTH, {"divisor": 7})
        connection.scalar(sa.text("SELECT CAST(:number AS integer)"), {"number": 7})
    assert len(asked) == 6
    connection.commit()
    assert len(asked) == 7


def test_values_of_all_kinds_arrive_as_they_are(connection: sa.Connection) -> None:
    statement = sa.text("SELECT CAST(:text AS text), CAST(:nothing AS text), CAST(:numbers AS integer[]), '100 %'")
    values = {"text": "a%s $1 'x' \\ é", "nothing": None, "numbers": [1, 2]}
    assert connection.execute(statement, values).one() == ("a%s $1 'x' \\ é", None, [1, 2], "100 %")
