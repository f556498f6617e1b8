"""What is removed is in the archive first, as a whole, or nothing is removed."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import uuid
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from sendledger.core.errors import SettingsError
from sendledger.core.settings import RetentionSettings
from sendledger.core.tables import email_events, emails, removals, replies, scheduled_emails
from sendledger.core.vocabulary import RemovalKind
from sendledger.feedback import reply_answers
from sendledger.files.file_bucket import BucketUnreachable, FileBucket
from sendledger.retention import archive, remove_rows
from sendledger.retention.run import remove_old
from sendledger.sending.tick import Resources, send_due_emails
from testbed.campaigns import DAY, rows_of
from testbed.object_store import bucket, object_store, s3
from testbed.ses_events import count_rows
from tests.retention.conftest import NAMES, address, end_long_ago

__all__ = ["bucket", "object_store", "s3"]

LEDGER = RetentionSettings.read({"KEEP_LEDGERS_DAYS": "90"})
FOREVER = float("inf")
PAGE = Path(__file__).parents[2] / "docs" / "retention.md"


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "ROWS_PER_PART", 7)
    monkeypatch.setattr(remove_rows, "ROWS_PER_CHUNK", 5)


def archived(s3: Any, bucket: FileBucket, name: str) -> list[dict[str, str]]:
    """The rows of all parts of this name."""
    found: list[dict[str, str]] = []
    for key in keys(s3, bucket):
        if f"/{name}-" in key:
            body = s3.get_object(Bucket=bucket.name, Key=key)["Body"].read()
            found += csv.DictReader(io.StringIO(gzip.decompress(body).decode(), newline=""))
    return found


def keys(s3: Any, bucket: FileBucket) -> list[str]:
    listed = s3.list_objects_v2(Bucket=bucket.name, Prefix="archive/").get("Contents", [])
    return sorted(each["Key"] for each in listed)


def test_archive_has_every_row_of_the_ledger_every_email_and_every_event(
    engine: sa.Engine, retention_engine: sa.Engine, ended: uuid.UUID, bucket: FileBucket, s3: Any
) -> None:
    with engine.connect() as connection:
        sent, reported = count_rows(connection, emails), count_rows(connection, email_events)
        subjects = set(connection.scalars(sa.select(emails.c.subject)))
    rows = {str(row["id"]): row["status"] for row in rows_of(engine, ended)}
    remove_old(retention_engine, LEDGER, FOREVER, bucket)
    assert {row["scheduled_email_id"]: row["status"] for row in archived(s3, bucket, "ledger")} == rows
    mails = archived(s3, bucket, "emails")
    assert (len(mails), {mail["subject"] for mail in mails}) == (sent, subjects)
    assert {mail["to_address"] for mail in mails} == {address(name) for name in NAMES} - {address("fails")}
    assert len(archived(s3, bucket, "events")) == reported
    (manifest,) = (key for key in keys(s3, bucket) if key.endswith("/complete.json"))
    said = json.loads(s3.get_object(Bucket=bucket.name, Key=manifest)["Body"].read())
    assert said == {
        "campaign_id": str(ended),
        "kind": "ledger",
        "parts": -(-len(rows) // 7),
        "rows": len(rows) + sent + reported,
    }
    assert rows_of(engine, ended) == []


@pytest.mark.parametrize("by_row", [True, False])
def test_part_has_no_more_texts_than_fit_into_memory(
    engine: sa.Engine,
    retention_engine: sa.Engine,
    ended: uuid.UUID,
    bucket: FileBucket,
    s3: Any,
    monkeypatch: pytest.MonkeyPatch,
    by_row: bool,
) -> None:
    monkeypatch.setattr(archive, "BYTES_PER_PART", 250)
    with engine.begin() as connection:
        connection.execute(sa.update(emails).values(body_text="x" * 60, body_html="y" * 40))
        if not by_row:
            connection.execute(sa.text("DELETE FROM scheduled_emails"))
            connection.execute(sa.text("UPDATE emails SET scheduled_email_id = NULL"))
        sent = set(map(str, connection.scalars(sa.select(emails.c.id))))
    remove_old(retention_engine, LEDGER, FOREVER, bucket)
    found = archived(s3, bucket, "emails")
    assert {row["email_id"] for row in found} == sent
    assert len(found) == len(sent)
    parts = [key for key in keys(s3, bucket) if "/emails-" in key]
    assert len(parts) >= len(sent) / 2


def test_email_that_is_too_long_for_a_part_has_one_of_its_own(
    retention_engine: sa.Engine, ended: uuid.UUID, bucket: FileBucket, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "BYTES_PER_PART", 1)
    remove_old(retention_engine, LEDGER, FOREVER, bucket)
    assert {mail["to_address"] for mail in archived(s3, bucket, "emails")} == {
        address(name) for name in NAMES if name != "fails"
    }


def test_answer_that_went_out_before_the_removal_was_done_is_archived_too(
    engine: sa.Engine,
    retention_engine: sa.Engine,
    ended: uuid.UUID,
    resources: Resources,
    bucket: FileBucket,
    s3: Any,
) -> None:
    assert archive.archive(retention_engine, bucket, ended, RemovalKind.CONTENT, 30, FOREVER)
    with engine.begin() as connection:
        reply_id = connection.execute(sa.select(replies.c.id)).scalar_one()
        reply_answers.answer(connection, reply_id, "Thanks", "ann", quote=False)
        connection.execute(sa.update(removals).values(began_at=sa.func.now() - 500 * DAY))
    send_due_emails(resources, 30.0)
    end_long_ago(engine, ended)
    remove_old(retention_engine, RetentionSettings.read({"KEEP_CONTENT_DAYS": "30"}), FOREVER, bucket)
    with engine.connect() as connection:
        assert set(connection.scalars(sa.select(emails.c.body_text))) == {""}
    assert "Thanks" in {mail["body_text"].strip() for mail in archived(s3, bucket, "emails")}


@pytest.mark.parametrize(("setting", "files"), [("KEEP_CONTENT_DAYS", {"emails"}), ("KEEP_EVENTS_DAYS", {"events"})])
def test_each_kind_archives_what_it_removes(
    retention_engine: sa.Engine, ended: uuid.UUID, bucket: FileBucket, s3: Any, setting: str, files: set[str]
) -> None:
    remove_old(retention_engine, RetentionSettings.read({setting: "30"}), FOREVER, bucket)
    assert {key.rpartition("/")[2].partition("-")[0] for key in keys(s3, bucket)} == files | {"complete.json"}


def test_bucket_that_cannot_be_reached_keeps_everything(
    engine: sa.Engine, retention_engine: sa.Engine, ended: uuid.UUID, bucket: FileBucket, s3: Any
) -> None:
    before = rows_of(engine, ended)
    with pytest.raises(BucketUnreachable):
        remove_old(retention_engine, LEDGER, FOREVER, FileBucket("no-such-bucket", tries=1))
    assert rows_of(engine, ended) == before
    remove_old(retention_engine, LEDGER, FOREVER, bucket)
    assert len(archived(s3, bucket, "ledger")) == len(before)


class _Dies(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("nth", [1, 2, 5, 7])
def test_run_that_ends_within_the_archive_removes_nothing_and_the_next_one_goes_on(
    engine: sa.Engine,
    retention_engine: sa.Engine,
    ended: uuid.UUID,
    bucket: FileBucket,
    s3: Any,
    monkeypatch: pytest.MonkeyPatch,
    nth: int,
) -> None:
    before = rows_of(engine, ended)
    stored, store = 0, bucket.store

    def dying(key: str, content: bytes, content_type: str) -> None:
        nonlocal stored
        stored += 1
        store(key, content, content_type)
        if stored == nth:
            raise _Dies

    monkeypatch.setattr(bucket, "store", dying)
    with pytest.raises(_Dies):
        remove_old(retention_engine, LEDGER, FOREVER, bucket)
    assert rows_of(engine, ended) == before
    monkeypatch.setattr(bucket, "store", store)
    remove_old(retention_engine, LEDGER, FOREVER, bucket)
    assert len(archived(s3, bucket, "ledger")) == len(before)
    with engine.connect() as connection:
        assert count_rows(connection, scheduled_emails) == 0
        assert connection.scalar(sa.select(removals.c.archive_parts)) == -(-len(before) // 7)


def test_emails_of_an_older_application_are_archived_too(
    engine: sa.Engine, retention_engine: sa.Engine, ended: uuid.UUID, bucket: FileBucket, s3: Any
) -> None:
    with engine.begin() as connection:
        sent, reported = count_rows(connection, emails), count_rows(connection, email_events)
        connection.execute(sa.text("DELETE FROM scheduled_emails"))
        connection.execute(sa.text("UPDATE emails SET scheduled_email_id = NULL"))
        connection.execute(sa.text("UPDATE email_events SET scheduled_email_id = NULL"))
    remove_old(retention_engine, LEDGER, FOREVER, bucket)
    assert (len(archived(s3, bucket, "emails")), len(archived(s3, bucket, "events"))) == (sent, reported)
    with engine.connect() as connection:
        assert count_rows(connection, emails) == 0


@pytest.mark.parametrize("name", ["ledger", "emails", "events"])
def test_page_lists_the_columns_of_each_file(
    retention_engine: sa.Engine, ended: uuid.UUID, bucket: FileBucket, s3: Any, name: str
) -> None:
    remove_old(retention_engine, LEDGER, FOREVER, bucket)
    (row,) = re.findall(rf"^\| `{name}` \| (.+) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert re.findall(r"`(\w+)`", row) == list(archived(s3, bucket, name)[0])


def test_archive_needs_a_bucket() -> None:
    with pytest.raises(SettingsError, match="FILE_BUCKET"):
        RetentionSettings.read({"ARCHIVE_REMOVED": "true"})
