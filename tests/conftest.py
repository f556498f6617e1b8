"""Fixtures that every suite shares: a real PostgreSQL with the current schema, one fresh database for each test."""

from __future__ import annotations

import gc
import inspect
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from local.postgres import Postgres
from local.ses_simulator import SesSimulator
from local.threaded_server import HOST
from sendledger.core import database
from sendledger.core.settings import DatabaseSettings
from sendledger.sending.tick import Resources
from testbed.databases import admin, let_functions_work, migrate, working_as
from testbed.senders import sender_resources

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "main")

# What runs on this machine is not reached through a proxy. Of the two names, libraries prefer the one in small letters.
_DIRECTLY = ",".join(filter(None, [os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), "localhost", HOST]))
os.environ.update(no_proxy=_DIRECTLY, NO_PROXY=_DIRECTLY)

# On a busy machine a test may stand still for longer than a function may, in the middle of a transaction.
database.LONGEST_PAUSE = 120.0
# Likewise an answer may take longer than the 5 s that every call of httpx waits where it names no timeout.
_PATIENCE = inspect.signature(httpx.request).parameters["timeout"].default
_PATIENCE.connect = _PATIENCE.read = _PATIENCE.write = _PATIENCE.pool = 120.0


FORGETFUL = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "min_wal_size": "'32MB'",
    "max_wal_size": "'128MB'",
}


def pytest_collection_finish() -> None:
    """What is imported by now stays, so the garbage collector need not look at it again and again. With all of it a
    collection can take so long that the server ends an idle transaction meanwhile."""
    gc.collect()
    gc.freeze()


def _in_memory() -> Path | None:
    """Where there is room in memory for the servers of all workers. On a disk, copying a database costs up to twenty
    times as much CPU time, for the names and places of its 600 files."""
    memory = Path("/dev/shm")
    return memory if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2 * 1024**3 else None


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A server of this worker's own. It does not wait for the disk: a test database need not survive the machine."""
    with tempfile.TemporaryDirectory(prefix="sl-", dir=_in_memory()) as folder:
        # For root the server is another user. Before PostgreSQL 16 it has to enter the folder above, too.
        Path(folder).chmod(0o711)
        server = Postgres(Path(folder) / "pg", temporary=Path(folder))
        with admin(server) as connection:
            for setting, value in FORGETFUL.items():
                connection.execute(sa.text(f"ALTER SYSTEM SET {setting} = {value}"))
            connection.execute(sa.text("SELECT pg_reload_conf()"))
        yield server
        server.stop()


@pytest.fixture(scope="session")
def template_database(postgres: Postgres) -> str:
    """The name of a migrated database to clone: cloning takes milliseconds, migrating a quarter of a second."""
    name = "template_current"
    with admin(postgres) as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    migrate(postgres.url(name))
    let_functions_work(postgres.url(name))
    return name


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


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    created = database.engine(DatabaseSettings.read({"DATABASE_URL": database_url}), pool_size=8)
    yield created
    created.dispose()


@pytest.fixture
def connection(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection in a transaction of its own; commit what another connection shall see."""
    with engine.connect() as opened:
        # On a busy machine a test waits for longer than an application may keep the server waiting.
        for limit in ("idle_session_timeout", "idle_in_transaction_session_timeout"):
            opened.exec_driver_sql(f"SET {limit} = 0")
        opened.commit()
        yield opened


@pytest.fixture
def ses() -> Iterator[SesSimulator]:
    """An SES without limits; tests that need them set them."""
    with SesSimulator(rate=None, daily_quota=-1) as simulator:
        yield simulator


@pytest.fixture
def sender_engine(engine: sa.Engine) -> Iterator[sa.Engine]:
    """Connections as the sender has them."""
    with working_as("sender", engine, pool_size=8) as created:
        yield created


@pytest.fixture
def resources(sender_engine: sa.Engine, ses: SesSimulator) -> Resources:
    return sender_resources(sender_engine, ses.url)
