"""Fixtures that every suite shares: a real PostgreSQL with the current schema, one fresh database for each test."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from local.postgres import Postgres, as_user
from local.ses_simulator import SesSimulator
from local.stack import PARAMETERS
from sendledger import database
from sendledger.send_email import ses_client
from sendledger.sender import Resources
from sendledger.settings import DatabaseSettings, SenderSettings

MIGRATIONS = Path(__file__).parent.parent / "migrations"
OWNER = PARAMETERS["DatabaseUser"]
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "main")


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A server of this worker's own. It does not wait for the disk: a test database need not survive the machine."""
    # A short path: the name of a Unix socket has room for 107 characters.
    with tempfile.TemporaryDirectory(prefix="sl-") as folder:
        server = Postgres(Path(folder) / "pg")
        with admin(server) as connection:
            for setting, value in {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}.items():
                connection.execute(sa.text(f"ALTER SYSTEM SET {setting} = {value}"))
            connection.execute(sa.text("SELECT pg_reload_conf()"))
        yield server
        server.stop()


def plain_engine(url: str | sa.URL, **options: Any) -> sa.Engine:
    """An engine without a pool or any of Sendledger's settings: what somebody else's program has.

    Without a word about TLS, pg8000 reads the certificate authorities of the machine for each connection (40 ms).
    """
    return sa.create_engine(url, poolclass=sa.NullPool, connect_args={"ssl_context": False}, **options)


def admin(server: Postgres) -> sa.Connection:
    """A connection on which CREATE DATABASE and the like can run."""
    return plain_engine(server.url(), isolation_level="AUTOCOMMIT").connect()


@pytest.fixture(scope="session")
def template_database(postgres: Postgres) -> str:
    """The name of a migrated database to clone: cloning takes milliseconds, migrating a quarter of a second."""
    name = "template_current"
    with admin(postgres) as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    migrate(postgres.url(name))
    let_functions_work(postgres.url(name))
    return name


def migrate(url: str) -> None:
    """Bring a database to the current schema."""
    engine = database.engine(DatabaseSettings.read({"DATABASE_URL": url}))
    with engine.connect() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(MIGRATIONS))
        command.upgrade(config, "head")
    engine.dispose()


def let_functions_work(url: str) -> None:
    """Create the functions' users and grant them what a deployment grants."""
    import database_roles  # the benchmarks import this module, and have no handlers on their path

    engine = database.engine(DatabaseSettings.read({"DATABASE_URL": url}))
    with engine.begin() as connection:
        database_roles.create_roles(connection, OWNER, None, database_roles.users(OWNER).values())
        database_roles.grant(connection, OWNER)
    engine.dispose()


@pytest.fixture
def database_url(postgres: Postgres, template_database: str) -> Iterator[str]:
    """The URL of an empty database with the current schema, dropped after the test."""
    name = f"test_{os.urandom(6).hex()}"
    with admin(postgres) as connection:
        # The faster way to copy; 14 knows no other.
        strategy = "STRATEGY file_copy" if (connection.dialect.server_version_info or ()) >= (15,) else ""
        connection.execute(sa.text(f"CREATE DATABASE {name} TEMPLATE {template_database} {strategy}"))
    yield postgres.url(name)
    with admin(postgres) as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))


def url_as(kind: str, url: str) -> str:
    """The URL of the same database for the user of this kind of function, who may do no more than it needs."""
    return as_user(url, f"{OWNER}_{kind}")


@contextlib.contextmanager
def working_as(kind: str, engine: sa.Engine, pool_size: int = 2) -> Iterator[sa.Engine]:
    """Connections to the engine's database as this kind of function has them."""
    url = url_as(kind, engine.url.render_as_string(hide_password=False))
    created = database.engine(DatabaseSettings.read({"DATABASE_URL": url}), pool_size)
    yield created
    created.dispose()


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    created = database.engine(DatabaseSettings.read({"DATABASE_URL": database_url}), pool_size=8)
    yield created
    created.dispose()


@pytest.fixture
def connection(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection in a transaction of its own; commit what another connection shall see."""
    with engine.connect() as opened:
        yield opened


@pytest.fixture
def ses() -> Iterator[SesSimulator]:
    """An SES without limits; tests that need them set them."""
    with SesSimulator(rate=None, daily_quota=-1) as simulator:
        yield simulator


def sender_resources(engine: sa.Engine, ses_url: str, **settings: str) -> Resources:
    """What a sender needs, wired to a simulator; pass an engine of the sender's own user."""
    session = botocore.session.get_session()
    session.set_credentials("test", "test")
    session.set_config_variable("region", "us-east-1")
    environ = {"DEPLOYMENT_ID": "test", "SENDER_FROM_ADDRESS": "Sales <sales@example.com>", **settings}
    return Resources(
        engine=engine,
        ses_client=ses_client(session, endpoint_url=ses_url),
        settings=SenderSettings.read({"SES_CONFIGURATION_SET": "sendledger", **environ}),
    )


@pytest.fixture
def sender_engine(engine: sa.Engine) -> Iterator[sa.Engine]:
    """Connections as the sender has them."""
    with working_as("sender", engine, pool_size=8) as created:
        yield created


@pytest.fixture
def resources(sender_engine: sa.Engine, ses: SesSimulator) -> Resources:
    return sender_resources(sender_engine, ses.url)
