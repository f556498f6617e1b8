"""A database whose clock can be moved, so that a test covers weeks of openings.

The product asks the database for the time, by the names of functions without a schema. Here these names are found in
the schema `shifted` first.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import sqlalchemy as sa

_INSTALL = """
    CREATE SCHEMA shifted;
    CREATE TABLE shifted.clock (shift interval NOT NULL);
    INSERT INTO shifted.clock VALUES ('0');
    CREATE FUNCTION shifted.now() RETURNS timestamptz LANGUAGE sql STABLE
        AS 'SELECT pg_catalog.now() + (SELECT shift FROM shifted.clock)';
    CREATE FUNCTION shifted.statement_timestamp() RETURNS timestamptz LANGUAGE sql STABLE
        AS 'SELECT pg_catalog.statement_timestamp() + (SELECT shift FROM shifted.clock)';
    CREATE FUNCTION shifted.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
        AS 'SELECT pg_catalog.clock_timestamp() + (SELECT shift FROM shifted.clock)';
    GRANT USAGE ON SCHEMA shifted TO PUBLIC;
    GRANT SELECT ON shifted.clock TO PUBLIC;
"""


class MovedClock:
    """The clock of an engine's database. It goes on from wherever it is moved to."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        with engine.begin() as connection:
            connection.exec_driver_sql(_INSTALL)
            name = connection.scalar(sa.text("SELECT quote_ident(current_database())"))
            connection.exec_driver_sql(f"ALTER DATABASE {name} SET search_path = shifted, pg_catalog, public")
        engine.dispose()  # a connection keeps the path that it was opened with

    def move_to(self, instant: dt.datetime) -> None:
        with self._engine.begin() as connection:
            moved = sa.text("UPDATE shifted.clock SET shift = :instant - pg_catalog.now()")
            connection.execute(
                moved.bindparams(sa.bindparam("instant", type_=sa.TIMESTAMP(timezone=True))), {"instant": instant}
            )

    def ticks(self, start: dt.datetime, end: dt.datetime, every: dt.timedelta) -> Iterator[dt.datetime]:
        """Move from start to before end in equal steps; each is to be followed by a tick."""
        instant = start
        while instant < end:
            self.move_to(instant)
            yield instant
            instant += every
