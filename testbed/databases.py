"""Databases for tests and benchmarks: a migrated schema, the functions' users, and engines with their rights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from local.postgres import Postgres, as_user
from local.stack import PARAMETERS
from sendledger.core import database
from sendledger.core.settings import DatabaseSettings

MIGRATIONS = Path(__file__).parent.parent / "migrations"
SCRIPTS = str(MIGRATIONS).replace("%", "%%")
"""The same for a configuration of Alembic, which reads a single % as the beginning of a variable."""
OWNER = PARAMETERS["DatabaseUser"]


def plain_engine(url: str | sa.URL, **options: Any) -> sa.Engine:
    """An engine without a pool and without Sendledger's settings, as another program has it.

    Without an SSL setting pg8000 reads the machine's certificate authorities for each connection (40 ms).
    """
    return sa.create_engine(url, poolclass=sa.NullPool, connect_args={"ssl_context": False}, **options)


def admin(server: Postgres) -> sa.Connection:
    """A connection on which CREATE DATABASE and the like can run."""
    return plain_engine(server.url(), isolation_level="AUTOCOMMIT").connect()


def migrate(url: str) -> None:
    """Bring a database to the current schema."""
    engine = database.engine(DatabaseSettings.read({"DATABASE_URL": url}))
    with engine.connect() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", SCRIPTS)
        command.upgrade(config, "head")
    engine.dispose()


def let_functions_work(url: str) -> None:
    """Create the functions' users and grant them what a deployment grants."""
    import database_roles  # the benchmarks import this module, and have no handlers on their path

    engine = database.engine(DatabaseSettings.read({"DATABASE_URL": url}))
    with engine.begin() as connection:
        database_roles.create_roles(connection, OWNER, None, OWNER)
        # As docs/operations/deploy.md says; since PostgreSQL 15 it is so.
        connection.execute(sa.text("REVOKE CREATE ON SCHEMA public FROM PUBLIC"))
        database_roles.grant(connection, OWNER)
    engine.dispose()


def wait_until(engine: sa.Engine, condition: str, **values: Any) -> None:
    """Ask the server until the condition holds, for five minutes at most: the machine may be busy."""
    with engine.connect() as connection:
        give_up = connection.scalar(sa.text("SELECT now() + interval '5 minutes'"))
        statement = sa.text(f"SELECT {condition}, clock_timestamp() > :give_up")
        while True:
            holds, is_late = connection.execute(statement, {"give_up": give_up, **values}).one()
            connection.rollback()  # within a transaction PostgreSQL returns the same statistics each time
            if holds:
                return
            assert not is_late, condition


def url_as(kind: str, url: str) -> str:
    """The URL of the same database for the user of this kind of function, who may do no more than it needs."""
    return as_user(url, f"{OWNER}_{kind}")


@contextlib.contextmanager
def working_as(kind: str, engine: sa.Engine, pool_size: int = 3) -> Iterator[sa.Engine]:
    """Connections to the engine's database as this kind of function has them."""
    url = url_as(kind, engine.url.render_as_string(hide_password=False))
    created = database.engine(DatabaseSettings.read({"DATABASE_URL": url}), pool_size)
    yield created
    created.dispose()
