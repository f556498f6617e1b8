"""Fixtures of the API's tests: the real handler on a fresh database, called with a key of each role."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

import api_resources
import campaign_api_handler
from local.postgres import Postgres
from sendledger.access import api_keys
from sendledger.core.tables import audit_log, metadata, sender_state
from sendledger.core.vocabulary import Role
from sendledger.files.file_bucket import FileBucket
from testbed.databases import admin, plain_engine, url_as
from testbed.object_store import bucket, object_store, s3
from tests.functions.campaign_api.api_client import ApiClient

__all__ = ["bucket", "object_store", "s3"]

# Without them no campaign starts. There is no SENDER_FROM_ADDRESS, so SES and the DNS are not asked.
MAIL_SETTINGS = {
    "PUBLIC_URL": "https://mail.example.com",
    "UNSUBSCRIBE_KEYS": "k1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
    "POSTAL_ADDRESS": "1 Main Street, Springfield",
}


@pytest.fixture(scope="session")
def kept_database(postgres: Postgres, template_database: str) -> str:
    """The name of this worker's database for the API's tests: there are hundreds, and a new one for each takes long."""
    with admin(postgres) as connection:
        connection.execute(sa.text(f"CREATE DATABASE api_tests TEMPLATE {template_database}"))
    return "api_tests"


@pytest.fixture
def database_url(postgres: Postgres, kept_database: str) -> Iterator[str]:
    """The URL of a database with the current schema, emptied after the test."""
    url = postgres.url(kept_database)
    yield url
    empty(url)


def empty(url: str) -> None:
    """Delete what a test has written."""
    emptying = plain_engine(url)
    with emptying.begin() as connection:
        # No triggers, so no foreign keys: in any order.
        connection.execute(sa.text("SET LOCAL session_replication_role = replica"))
        connection.execute(sa.text("SET LOCAL lock_timeout = '10s'"))
        for table in metadata.sorted_tables:
            connection.execute(sa.delete(table))
        connection.execute(sa.insert(sender_state))


@pytest.fixture
def clients(engine: sa.Engine, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ApiClient]]:
    """A client with a key of each role."""
    monkeypatch.setenv("DATABASE_URL", url_as("api", database_url))
    for name, value in MAIL_SETTINGS.items():
        monkeypatch.setenv(name, value)
    api_resources.engine.cache_clear()
    api_resources.settings.cache_clear()
    with engine.begin() as connection:
        keys = {role: api_keys.create(connection, role, role).key for role in Role}
        # What a test reads in the audit log is what the test did. The log is append-only by a trigger.
        connection.execute(sa.text("SET LOCAL session_replication_role = replica"))
        connection.execute(sa.delete(audit_log))
    yield {role: ApiClient(campaign_api_handler.lambda_handler, key) for role, key in keys.items()}
    api_resources.engine().dispose()
    api_resources.engine.cache_clear()


@pytest.fixture
def api(clients: dict[str, ApiClient]) -> ApiClient:
    """A client that may do everything."""
    return clients["admin"]


@pytest.fixture
def bucket_of_the_api(bucket: FileBucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The API keeps files in this bucket."""
    monkeypatch.setenv("FILE_BUCKET", bucket.name)
    for cached in (api_resources.file_settings, api_resources.file_bucket):
        cached.cache_clear()
    yield
    for cached in (api_resources.file_settings, api_resources.file_bucket):
        cached.cache_clear()
