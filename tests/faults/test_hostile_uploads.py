"""Uploaded files that are made to stop the importer, and importers that are killed, hold up nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from typing import Any

import pytest
import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from sendledger.campaigns import lifecycle
from sendledger.core.tables import lead_batches as batches
from sendledger.core.tables import leads
from sendledger.files.file_bucket import FileBucket
from sendledger.leads import import_files, lead_batches
from sendledger.sending.tick import Resources, send_due_emails
from testbed.campaigns import campaign_row, make_campaign
from testbed.databases import OWNER, url_as, wait_until
from testbed.object_store import bucket, object_store, s3

__all__ = ["bucket", "object_store", "s3"]

ROWS = 8_000
GOOD = b"email,name\n" + b"".join(b"lead%d@acme.com,Ann\n" % number for number in range(ROWS))
ENDINGS = {
    "a line without an end": b"x" * 5_000_000,
    "a quotation mark that is never closed": b'bob@acme.com,"' + b"x\n" * 200_000,
}

IMPORTER = """
import sys, uuid
from sendledger.core import database
from sendledger.core.settings import DatabaseSettings
from sendledger.files.file_bucket import FileBucket
from sendledger.leads import import_files
bucket, lead_batch_id = FileBucket(sys.argv[1]), uuid.UUID(sys.argv[2])
import_files.work(database.engine(DatabaseSettings.read()), bucket, lead_batch_id, float("inf"))
"""


def upload(engine: sa.Engine, bucket: FileBucket, s3: Any, content: bytes) -> uuid.UUID:
    with engine.begin() as connection:
        created = lead_batches.create_pending(connection, {"name": "Fair"})
    s3.put_object(Bucket=bucket.name, Key=created["source_object"], Body=content)
    return uuid.UUID(str(created["id"]))


def importer(bucket: FileBucket, batch_id: uuid.UUID, database_url: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {"DATABASE_URL": url_as("files", database_url)}
    return subprocess.Popen([sys.executable, "-c", IMPORTER, bucket.name, str(batch_id)], env=environment)


@pytest.mark.parametrize("ending", ENDINGS)
def test_importer_of_a_hostile_file_is_killed_and_everything_else_goes_on(
    engine: sa.Engine,
    connection: sa.Connection,
    database_url: str,
    ses: SesSimulator,
    resources: Resources,
    bucket: FileBucket,
    s3: Any,
    ending: str,
) -> None:
    campaign_id = make_campaign(connection, 20)
    lifecycle.start_campaign(engine, campaign_id)
    hostile = upload(engine, bucket, s3, GOOD + ENDINGS[ending])
    good = upload(engine, bucket, s3, b"email,name\nbob@acme.com,Bob\n")
    process = importer(bucket, hostile, database_url)
    try:
        wait_until(engine, f"(SELECT total_leads FROM lead_batches WHERE id = '{hostile}') > 0")
    finally:
        process.kill()
        process.wait()
    wait_until(engine, f"NOT EXISTS (SELECT FROM pg_stat_activity WHERE usename = '{OWNER}_files')")
    assert send_due_emails(resources, 60.0).sent == 20
    assert campaign_row(engine, campaign_id)["status"] == "completed"
    for batch_id in (good, hostile):
        assert not import_files.work(engine, bucket, batch_id, float("inf"))
    assert imported(connection, good) == ("completed", 1)
    status, count = imported(connection, hostile)
    assert (status in ("completed", "failed"), count) == (True, stored(connection, hostile))
    assert count >= ROWS


def imported(connection: sa.Connection, batch_id: uuid.UUID) -> sa.Row[str, int]:
    shown = sa.select(batches.c.status, batches.c.successful_imports).where(batches.c.id == batch_id)
    return connection.execute(shown).one()


def stored(connection: sa.Connection, batch_id: uuid.UUID) -> int:
    return connection.scalars(sa.select(sa.func.count()).where(leads.c.batch_id == batch_id)).one()
