"""Exports read from a replica, and from the writer where the replica fails or does not have the campaign yet."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from sendledger.campaigns import lifecycle
from sendledger.core import database
from sendledger.core.reader import Reader, Source
from sendledger.core.settings import DatabaseSettings
from sendledger.exports import export_rows
from testbed.campaigns import make_batch, make_campaign
from testbed.databases import plain_engine, url_as
from testbed.replicas import Replicated, replicated

EMAIL = export_rows.LEDGER_HEADER.index("email")


@pytest.fixture(scope="module")
def servers() -> Iterator[Replicated]:
    with replicated() as pair:
        yield pair


@pytest.fixture
def engine(servers: Replicated) -> Iterator[sa.Engine]:
    created = database.engine(DatabaseSettings.read({"DATABASE_URL": servers.writer.url()}))
    yield created
    created.dispose()


@pytest.fixture
def source(servers: Replicated) -> Iterator[Source]:
    """As the function that exports has it."""
    urls = {"DATABASE_URL": servers.writer.url(), "DATABASE_READER_URL": servers.replica.url()}
    settings = DatabaseSettings.read({name: url_as("files", url) for name, url in urls.items()})
    writer, reader = database.engine(settings), Reader.of(settings)
    assert reader is not None
    with contextlib.ExitStack() as stack:
        stack.callback(writer.dispose)
        stack.callback(reader.engine.dispose)
        yield stack.enter_context(Source(writer, reader))
    servers.catch_up()


def started(engine: sa.Engine, addresses: list[str]) -> uuid.UUID:
    with engine.connect() as connection:
        campaign_id = make_campaign(connection, addresses)
    lifecycle.start_campaign(engine, campaign_id)
    return campaign_id


def test_export_has_what_the_replica_has(engine: sa.Engine, servers: Replicated, source: Source) -> None:
    with engine.begin() as connection:
        batch_id = make_batch(connection, ["before@example.com"])
    servers.pause()
    with engine.begin() as connection:
        connection.execute(
            sa.text("UPDATE leads SET email = 'after@example.com' WHERE batch_id = :id"), {"id": batch_id}
        )
    (page,) = export_rows.lead_rows(source, {"batch_id": str(batch_id)})
    assert [row[export_rows.LEAD_HEADER.index("email")] for row in page] == ["before@example.com"]


def test_campaign_that_the_replica_does_not_have_yet_is_exported_from_the_writer(
    engine: sa.Engine, servers: Replicated, source: Source
) -> None:
    servers.pause()
    campaign_id = started(engine, ["ann@example.com"])
    rows = [row for page in export_rows.ledger_rows(source, campaign_id) for row in page]
    assert [row[EMAIL] for row in rows] == ["ann@example.com"]


def test_export_goes_on_at_the_writer_when_the_replica_ends_its_connection(
    engine: sa.Engine, servers: Replicated, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_rows, "ROWS_PER_PAGE", 1)
    monkeypatch.setattr(export_rows, "_LEDGER", export_rows._LEDGER.limit(1))
    campaign_id = started(engine, ["ann@example.com", "bob@example.com"])
    servers.catch_up()
    pages = export_rows.ledger_rows(source, campaign_id)
    rows = list(next(pages))
    with plain_engine(servers.replica.url()).connect() as connection:
        ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'sendledger'"
        assert connection.scalar(sa.text(ended)) > 0
    rows += [row for page in pages for row in page]
    assert sorted(str(row[EMAIL]) for row in rows) == ["ann@example.com", "bob@example.com"]
