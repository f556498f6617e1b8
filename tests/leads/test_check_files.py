"""A check of an uploaded file counts what an import would do, and stores no lead."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest
import sqlalchemy as sa

from sendledger.core.tables import lead_batches as batches
from sendledger.core.tables import leads, suppressions
from sendledger.files.file_bucket import FileBucket
from sendledger.leads import check_files, import_files, import_leads, lead_batches, uploaded_files
from sendledger.leads.read_leads import LeadFile, ReadColumn, columns_of
from testbed.campaigns import make_batch
from testbed.databases import working_as
from testbed.object_store import bucket, object_store, s3

__all__ = ["bucket", "object_store", "s3"]


def upload(engine: sa.Engine, bucket: FileBucket, s3: Any, content: bytes, **columns: str) -> uuid.UUID:
    settings = {"columns": columns, "dry_run": True}
    with engine.begin() as connection:
        created = lead_batches.create_pending(connection, {"name": "Fair", "import_settings": settings})
    s3.put_object(Bucket=bucket.name, Key=created["source_object"], Body=content)
    return uuid.UUID(str(created["id"]))


def check(engine: sa.Engine, bucket: FileBucket, batch_id: uuid.UUID, seconds: float = 60.0) -> sa.RowMapping:
    with working_as("files", engine) as as_function:
        assert not import_files.work(as_function, bucket, batch_id, time.monotonic() + seconds)
    with engine.begin() as connection:
        return lead_batches.get(connection, batch_id)


def counts(batch: sa.RowMapping) -> tuple[int, int, int, int]:
    return batch["total_leads"], batch["successful_imports"], batch["duplicates_skipped"], batch["failed_imports"]


def test_check_counts_what_the_import_then_does(engine: sa.Engine, bucket: FileBucket, s3: Any) -> None:
    with engine.begin() as connection:
        make_batch(connection, ["Known@example.com"])
    rows = "known@example.com,\nann@example.com,\nANN@example.com,\nnobody,\nbob@example.com,yes\n"
    batch_id = upload(engine, bucket, s3, f"email,unsubscribed\n{rows}".encode())
    checked = check(engine, bucket, batch_id)
    assert (checked["status"], counts(checked)) == ("checked", (5, 1, 2, 2))
    assert checked["import_settings"]["rejected"] == {"invalid_email": 1, "opted_out": 1}
    assert checked["import_settings"]["understood"][0]["field"] == "email"
    with engine.begin() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(leads)) == 1
        assert connection.scalar(sa.select(sa.func.count()).select_from(suppressions)) == 0
        lead_batches.begin_again(connection, batch_id, None, "test", dry_run=False)
    imported = check(engine, bucket, batch_id)
    assert (imported["status"], counts(imported)) == ("completed", counts(checked))


def test_check_over_several_chunks_knows_the_addresses_before(
    engine: sa.Engine, bucket: FileBucket, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_leads, "ROWS_PER_CHUNK", 2)
    names = ["a", "b", "c", "a", "d", "b", "e"]
    batch_id = upload(engine, bucket, s3, b"email\n" + b"".join(b"%s@example.com\n" % name.encode() for name in names))
    assert counts(check(engine, bucket, batch_id)) == (7, 5, 2, 0)


def test_interrupted_check_begins_again(engine: sa.Engine, bucket: FileBucket, s3: Any) -> None:
    batch_id = upload(engine, bucket, s3, b"email\nann@example.com\n")
    left = {"status": "checking", "total_leads": 5_000, "successful_imports": 4_000}
    with engine.begin() as connection:
        connection.execute(sa.update(batches).where(batches.c.id == batch_id).values(left))
    assert counts(check(engine, bucket, batch_id)) == (1, 1, 0, 0)


def test_check_that_was_left_behind_is_found(engine: sa.Engine, bucket: FileBucket, s3: Any) -> None:
    batch_id = upload(engine, bucket, s3, b"email\nann@example.com\n")
    with engine.begin() as connection:
        left = sa.update(batches).values(status="checking", updated_at=sa.func.now() - sa.text("interval '11 min'"))
        connection.execute(left)
        assert import_files.unfinished(connection) == [batch_id]


def test_check_that_crashes_again_and_again_fails(engine: sa.Engine, bucket: FileBucket, s3: Any) -> None:
    batch_id = upload(engine, bucket, s3, b"email\nann@example.com\n")
    with engine.begin() as connection:
        connection.execute(sa.update(batches).values(status="checking", runs_without_progress=5))
    batch = check(engine, bucket, batch_id)
    assert (batch["status"], "was interrupted 5 times" in batch["failure_reason"]) == ("failed", True)


def test_check_that_takes_too_long_says_what_to_do(engine: sa.Engine, bucket: FileBucket, s3: Any) -> None:
    batch = check(engine, bucket, upload(engine, bucket, s3, b"email\nann@example.com\n"), seconds=0.0)
    assert (batch["status"], "without one" in batch["failure_reason"]) == ("failed", True)


@pytest.mark.parametrize("is_check", [True, False])
def test_chosen_column_that_the_file_does_not_have_is_named(
    engine: sa.Engine, bucket: FileBucket, s3: Any, is_check: bool
) -> None:
    batch_id = upload(engine, bucket, s3, b"email,Firm\nann@example.com,Acme\n", Company="company_name")
    if not is_check:
        with engine.begin() as connection:
            connection.execute(
                sa.update(batches).values(import_settings={"columns": {"Company": "company_name"}, "dry_run": False})
            )
    batch = check(engine, bucket, batch_id)
    assert (batch["status"], batch["failure_reason"]) == (
        "failed",
        "The file has no column Company; it has email, Firm.",
    )


def test_unreadable_file_fails_the_check(engine: sa.Engine, bucket: FileBucket, s3: Any) -> None:
    batch = check(engine, bucket, upload(engine, bucket, s3, b"PK\x03\x04" + bytes(100)))
    assert (batch["status"], "zip archive" in batch["failure_reason"]) == ("failed", True)


def test_batch_that_is_deleted_meanwhile_is_left_alone(engine: sa.Engine, bucket: FileBucket, s3: Any) -> None:
    batch_id = upload(engine, bucket, s3, b"email\nann@example.com\n")
    with engine.begin() as connection:
        lead_batches.delete(connection, batch_id)
    with working_as("files", engine) as as_function:
        assert not import_files.work(as_function, bucket, batch_id, time.monotonic() + 60)


@pytest.mark.parametrize("is_check", [True, False])
@pytest.mark.parametrize(
    ("content", "is_read"),
    [
        (b"email,no\x00te\nann@example.com,x\n", True),
        (b"email,note\nann@example.com,x\x00y\n", True),
        (b"na\x00me,note\nann,x\n", False),
        (b"email,no\x00te\nann@example.com,x\n" + b'"a\n' * 1_100, False),
    ],
)
def test_file_with_a_nul_ends_as_others(
    engine: sa.Engine, bucket: FileBucket, s3: Any, content: bytes, is_read: bool, is_check: bool
) -> None:
    batch_id = upload(engine, bucket, s3, content)
    if not is_check:
        with engine.begin() as connection:
            connection.execute(sa.update(batches).values(import_settings={"columns": {}, "dry_run": False}))
    batch = check(engine, bucket, batch_id)
    assert batch["status"] == (("checked" if is_check else "completed") if is_read else "failed")


def test_run_that_ends_while_a_later_one_counts_anew_leaves_it_alone(
    engine: sa.Engine, bucket: FileBucket, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = upload(engine, bucket, s3, b"email\nann@example.com\n")

    def begin_anew(content: LeadFile) -> list[ReadColumn]:
        with engine.begin() as connection:
            connection.execute(sa.update(batches).values(lead_batches.NOTHING_COUNTED))
        return columns_of(content)

    monkeypatch.setattr(check_files, "columns_of", begin_anew)
    assert check(engine, bucket, batch_id)["status"] == "checking"
    monkeypatch.undo()
    assert counts(check(engine, bucket, batch_id)) == (1, 1, 0, 0)


def test_file_that_is_too_long_for_an_import_fails_its_check(
    engine: sa.Engine, bucket: FileBucket, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploaded_files, "MAX_ROWS", 2)
    rows = b"email\n" + b"".join(b"%d@example.com\n" % number for number in range(3))
    batch = check(engine, bucket, upload(engine, bucket, s3, rows))
    assert (batch["status"], "Split it." in batch["failure_reason"]) == ("failed", True)
