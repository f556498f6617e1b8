"""A run of retention that is killed at any point leaves nothing half done, and runs at once do no harm."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from sendledger.campaigns import lifecycle
from sendledger.core.tables import emails, removals, scheduled_emails
from sendledger.core.vocabulary import RemovalKind
from sendledger.retention import remove_rows
from sendledger.retention.due_campaigns import hold
from sendledger.sending.tick import Resources, send_due_emails
from testbed.campaigns import make_campaign
from testbed.databases import url_as, wait_until
from testbed.ses_events import count_rows
from tests.retention.conftest import end_long_ago, run_retention, statistics

RUN = """
import sys
from sendledger.core import database
from sendledger.core.settings import DatabaseSettings, RetentionSettings
from sendledger.retention import remove_rows
from sendledger.retention.run import remove_old
remove_rows.ROWS_PER_CHUNK = 3
engine = database.engine(DatabaseSettings.read({"DATABASE_URL": sys.argv[1]}))
remove_old(engine, RetentionSettings.read({"KEEP_LEDGERS_DAYS": "90"}), float("inf"))
"""
# What a chunk writes, in its order.
TABLES = ("removals", "campaign_counts", "scheduled_emails", "emails")
SESSIONS = "SELECT FROM pg_stat_activity WHERE usename LIKE '%retention'"


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remove_rows, "ROWS_PER_CHUNK", 3)


@pytest.mark.parametrize("table", TABLES)
def test_run_that_is_killed_within_a_chunk_has_removed_whole_chunks_only(
    engine: sa.Engine,
    connection: sa.Connection,
    retention_engine: sa.Engine,
    ended: uuid.UUID,
    database_url: str,
    table: str,
) -> None:
    before = statistics(engine, ended)
    with retention_engine.begin() as first:
        assert hold(first, ended, RemovalKind.LEDGER, 90)
        assert remove_rows.remove_chunk(first, ended, RemovalKind.LEDGER).rows == 3
    retention_engine.dispose()
    # The second chunk waits in its midst: nobody may write to this table.
    connection.execute(sa.text(f"LOCK TABLE {table} IN SHARE MODE"))
    process = subprocess.Popen([sys.executable, "-c", RUN, url_as("retention", database_url)])
    try:
        wait_until(engine, f"EXISTS ({SESSIONS} AND wait_event_type = 'Lock')")
    finally:
        process.kill()
        process.wait()
        connection.rollback()
    wait_until(engine, f"NOT EXISTS ({SESSIONS})")
    assert statistics(engine, ended) == before
    with engine.connect() as looking:
        rows = count_rows(looking, scheduled_emails)
        assert looking.scalar(sa.select(removals.c.rows_removed)) == 3
    assert run_retention(retention_engine, keep_ledgers_days="90")["ledger"] == rows
    with engine.connect() as looking:
        assert (count_rows(looking, scheduled_emails), count_rows(looking, emails)) == (0, 0)
    assert statistics(engine, ended) == before


def test_runs_at_the_same_time_remove_each_row_once(
    engine: sa.Engine, connection: sa.Connection, retention_engine: sa.Engine, resources: Resources
) -> None:
    campaigns = [make_campaign(connection, 10) for _ in range(3)]
    for campaign_id in campaigns:
        lifecycle.start_campaign(engine, campaign_id)
    send_due_emails(resources, 30.0)
    for campaign_id in campaigns:
        end_long_ago(engine, campaign_id)
    before = [statistics(engine, campaign_id) for campaign_id in campaigns]
    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(run_retention, retention_engine, keep_ledgers_days="90") for _ in range(3)]
        removed = sum((Counter(run.result()) for run in runs), Counter[str]())
    # A campaign that another run has locked is passed over until the next hour.
    removed += Counter(run_retention(retention_engine, keep_ledgers_days="90"))
    assert removed["ledger"] == 30
    assert [statistics(engine, campaign_id) for campaign_id in campaigns] == before
