"""Values that PostgreSQL has and Python has not come back as the nearest ones, and go back as what they stand for."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
import sqlalchemy as sa

from sendledger.core.postgres_values import EARLIEST, LATEST, LONGEST_DELAY, is_infinite, read_utc_time


def read(connection: sa.Connection, expression: str) -> Any:
    return connection.scalar(sa.text(f"SELECT {expression}"))


@pytest.mark.parametrize("type_", ["timestamptz", "timestamp"])
@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ("infinity", LATEST),
        ("-infinity", EARLIEST),
        ("294276-12-31 23:59:59.999999", LATEST),
        ("10000-01-01", LATEST),
        ("0044-03-15 BC", EARLIEST),
        ("4713-01-01 BC", EARLIEST),
        ("0001-01-01", EARLIEST),
        ("9999-12-31 23:59:59.999998", LATEST - dt.timedelta(microseconds=1)),
        ("2026-02-28 12:30:45.5", dt.datetime(2026, 2, 28, 12, 30, 45, 500_000, dt.UTC)),
        ("2026-02-28", dt.datetime(2026, 2, 28, tzinfo=dt.UTC)),
    ],
)
def test_time_is_the_nearest_that_python_has(
    connection: sa.Connection, type_: str, stored: str, expected: dt.datetime
) -> None:
    found = read(connection, f"'{stored}'::{type_}")
    assert found == (expected if type_ == "timestamptz" else expected.replace(tzinfo=None))


@pytest.mark.parametrize(
    ("setting", "expression", "expected"),
    [
        ("DateStyle = 'German'", "'2026-02-03'::timestamptz", dt.datetime(2026, 2, 3, tzinfo=dt.UTC)),
        ("DateStyle = 'SQL, DMY'", "'2026-02-03'::timestamptz", dt.datetime(2026, 2, 3, tzinfo=dt.UTC)),
        ("IntervalStyle = 'sql_standard'", "'0'::interval", dt.timedelta(0)),
    ],
)
def test_values_are_read_whatever_style_the_database_has(
    engine: sa.Engine, setting: str, expression: str, expected: Any
) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {engine.url.database} SET {setting}")
    engine.dispose()
    with engine.connect() as connection:
        assert read(connection, expression) == expected


@pytest.mark.parametrize("text", ["03.02.2026 00:00:00 UTC", "Tue Feb 03 00:00:00 2026 UTC", ""])
def test_text_that_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="Invalid isoformat"):
        read_utc_time(text)


@pytest.mark.parametrize(("time", "stored"), [(LATEST, "infinity"), (EARLIEST, "-infinity")])
def test_time_without_an_end_goes_back_as_one(connection: sa.Connection, time: dt.datetime, stored: str) -> None:
    query = sa.text("SELECT CAST(:time AS timestamptz)::text").bindparams(
        sa.bindparam("time", time, sa.TIMESTAMP(timezone=True))
    )
    assert connection.scalar(query) == stored
    assert is_infinite(time)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ("2147483647 days", LONGEST_DELAY),
        ("-2147483647 days", -LONGEST_DELAY),
        ("1 mon 2 days", dt.timedelta(days=32)),
        ("1 year", dt.timedelta(days=360)),
        ("3 days 01:00:00.5", dt.timedelta(days=3, hours=1, microseconds=500_000)),
    ],
)
def test_interval_is_the_nearest_that_python_has(
    connection: sa.Connection, stored: str, expected: dt.timedelta
) -> None:
    assert read(connection, f"'{stored}'::interval") == expected


@pytest.mark.parametrize(
    ("stored", "expected"),
    [("{a,NULL}", ["a", None]), ("[0:1]={a,b}", ["a", "b"]), ("[5:5]={=}", ["="]), ("{{a},{b}}", [["a"], ["b"]])],
)
def test_array_is_read_wherever_it_begins(connection: sa.Connection, stored: str, expected: list[Any]) -> None:
    assert read(connection, f"'{stored}'::text[]") == expected


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ("1e400", "1" + "0" * 400),
        ("1" * 5_000, "1" * 5_000),
        (f"{'9' * 400}.5", f"{'9' * 400}.5"),
        ("1e20", 10**20),
        ("-1.5", -1.5),
        ("[" * 201 + "]" * 201, "[" * 201 + "]" * 201),
        ('["[[", ' + "[], " * 300 + '"\\""]', ["[[", *([] for _ in range(300)), '"']),
    ],
    ids=["beyond a float", "many digits", "many digits and a half", "large", "small", "deep", "wide"],
)
def test_json_that_python_cannot_hold_is_text(connection: sa.Connection, stored: str, expected: Any) -> None:
    found = connection.scalar(sa.text("SELECT CAST(:stored AS jsonb)"), {"stored": stored})
    assert found == expected
