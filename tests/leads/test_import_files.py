"""An import in the background ends as it should, whatever the file holds and whoever interrupts it."""

from __future__ import annotations

import csv
import io
import threading
import time
import uuid
from typing import Any

import psutil
import pytest
import sqlalchemy as sa

from sendledger.campaigns import lifecycle
from sendledger.core.errors import Conflict
from sendledger.core.tables import lead_batches as batches
from sendledger.core.tables import leads, suppressions
from sendledger.files.file_bucket import PART_BYTES, FileBucket
from sendledger.leads import import_files, import_leads, lead_batches, uploaded_files
from testbed.campaigns import NO_DELAY, make_campaign, statuses
from testbed.databases import working_as
from testbed.object_store import bucket, object_store, s3

__all__ = ["bucket", "object_store", "s3"]

NOT_YET = float("inf")
AT_ONCE = 0.0


def rows(count: int, start: int = 0) -> bytes:
    return b"".join(b"lead%d@acme.com,Ann\n" % number for number in range(start, start + count))


def pending(engine: sa.Engine) -> sa.RowMapping:
    with engine.begin() as connection:
        return lead_batches.create_pending(connection, {"name": "Fair"})


def upload(engine: sa.Engine, bucket: FileBucket, s3: Any, content: bytes) -> uuid.UUID:
    created = pending(engine)
    s3.put_object(Bucket=bucket.name, Key=created["source_object"], Body=content)
    return uuid.UUID(str(created["id"]))


def shown(engine: sa.Engine, batch_id: uuid.UUID) -> sa.RowMapping:
    with engine.begin() as connection:
        return lead_batches.get(connection, batch_id)


def counts(engine: sa.Engine, batch_id: uuid.UUID) -> tuple[int, int, int, int]:
    row = shown(engine, batch_id)
    return row["total_leads"], row["successful_imports"], row["duplicates_skipped"], row["failed_imports"]


def rejects(engine: sa.Engine, s3: Any, bucket: FileBucket, batch_id: uuid.UUID) -> list[list[str]]:
    body = s3.get_object(Bucket=bucket.name, Key=shown(engine, batch_id)["rejects_object"])["Body"].read()
    return list(csv.reader(io.StringIO(body.decode(), newline="")))


def work(engine: sa.Engine, bucket: FileBucket, batch_id: uuid.UUID, deadline: float) -> bool:
    with working_as("files", engine) as as_function:
        return import_files.work(as_function, bucket, batch_id, deadline)


def run(engine: sa.Engine, bucket: FileBucket, batch_id: uuid.UUID) -> None:
    assert not work(engine, bucket, batch_id, NOT_YET)


GOOD = b"email,name\n" + rows(30)
BOMBS: dict[str, tuple[bytes, int, str]] = {
    "endless line": (GOOD + b"x" * 20_000_000, 30, "longer than 1,000,000 characters. Is this a CSV file? (row 32)"),
    "endless quoted line": (GOOD + b'"' + b"x" * 20_000_000, 30, "longer than 1,000,000 characters"),
    "zip archive": (b"PK\x03\x04" + bytes(1000), 0, "a zip archive"),
    "gzip": (b"\x1f\x8b" + bytes(1000), 0, "compressed with gzip"),
    "many columns": (b"email" + b",a" * 400_000 + b"\n", 0, "400,001 columns"),
    "a million columns": (b"email" + b",a" * 1_000_000 + b"\n", 0, "longer than 1,000,000 characters"),
    "broken quotes": (GOOD + b'"a"b\n' * 1_001, 30, "1,001 rows have broken quotation marks"),
    "NUL bytes": (bytes(1_000_000), 0, "NUL"),
    "nothing": (b"", 0, "it is empty"),
}


@pytest.mark.parametrize(("content", "imported", "reason"), BOMBS.values(), ids=BOMBS.keys())
def test_bomb_fails_with_a_reason_and_the_rows_before_it_stay(
    engine: sa.Engine, bucket: FileBucket, s3: Any, content: bytes, imported: int, reason: str
) -> None:
    batch_id = upload(engine, bucket, s3, content)
    run(engine, bucket, batch_id)
    row = shown(engine, batch_id)
    assert (row["status"], row["successful_imports"]) == ("failed", imported)
    assert reason in row["failure_reason"]
    assert row["completed_at"] is None


def test_quotation_mark_that_is_never_closed_costs_its_row_only(engine: sa.Engine, bucket: FileBucket, s3: Any) -> None:
    batch_id = upload(engine, bucket, s3, GOOD + b'bob@acme.com,"Bob\n' + rows(30_000, start=30))
    run(engine, bucket, batch_id)
    assert counts(engine, batch_id) == (30_031, 30_030, 0, 1)
    assert rejects(engine, s3, bucket, batch_id) == [
        ["rejected_row", "rejected_field", "rejected_code", "rejected_message", "email", "name"],
        [
            "32",
            "row",
            "unclosed_quote",
            "A field is longer than 131,072 characters. Is a quotation mark not closed?",
            "bob@acme.com",
            '"Bob',
        ],
    ]


def test_import_ends_at_its_deadline_and_goes_on_from_there(engine: sa.Engine, bucket: FileBucket, s3: Any) -> None:
    batch_id = upload(engine, bucket, s3, b"email,name\n" + rows(12_000) + b"nobody,No\n")
    positions = []
    while work(engine, bucket, batch_id, AT_ONCE):
        positions.append(counts(engine, batch_id)[0])
    assert positions == [5_000, 10_000, 12_001]
    assert counts(engine, batch_id) == (12_001, 12_000, 0, 1)
    assert shown(engine, batch_id)["status"] == "completed"
    assert [row[:2] for row in rejects(engine, s3, bucket, batch_id)[1:]] == [["12002", "email"]]


def test_rejects_of_all_runs_are_in_the_file(engine: sa.Engine, bucket: FileBucket, s3: Any) -> None:
    batch_id = upload(engine, bucket, s3, b"email,name\n" + (b"=nobody,No\n" + rows(4_999)) * 3)
    while work(engine, bucket, batch_id, AT_ONCE):
        assert shown(engine, batch_id)["rejects_object"] is None
    found = rejects(engine, s3, bucket, batch_id)[1:]
    assert [row[0] for row in found] == ["2", "5002", "10002"]
    assert {row[4] for row in found} == {"'=nobody"}


def test_runs_at_the_same_time_import_each_row_once(engine: sa.Engine, bucket: FileBucket, s3: Any) -> None:
    batch_id = upload(engine, bucket, s3, b"email,name\n" + rows(30_000))
    threads = [threading.Thread(target=run, args=(engine, bucket, batch_id)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts(engine, batch_id) == (30_000, 30_000, 0, 0)
    assert shown(engine, batch_id)["status"] == "completed"


def test_finished_import_is_left_alone(engine: sa.Engine, bucket: FileBucket, s3: Any) -> None:
    batch_id = upload(engine, bucket, s3, GOOD)
    run(engine, bucket, batch_id)
    before = shown(engine, batch_id)
    s3.put_object(Bucket=bucket.name, Key=before["source_object"], Body=b"email,name\n" + rows(60))
    run(engine, bucket, batch_id)
    assert shown(engine, batch_id) == before


def test_file_that_is_replaced_during_its_import_fails(engine: sa.Engine, bucket: FileBucket, s3: Any) -> None:
    batch_id = upload(engine, bucket, s3, b"email,name\n" + rows(6_000))
    assert work(engine, bucket, batch_id, AT_ONCE)
    key = shown(engine, batch_id)["source_object"]
    s3.put_object(Bucket=bucket.name, Key=key, Body=b"email,name\n" + rows(6_000, start=9_000))
    run(engine, bucket, batch_id)
    row = shown(engine, batch_id)
    assert (row["status"], row["successful_imports"]) == ("failed", 5_000)
    assert "Another file" in row["failure_reason"]


def test_file_that_is_replaced_while_it_is_read_fails(engine: sa.Engine, bucket: FileBucket, s3: Any) -> None:
    batch_id = upload(engine, bucket, s3, b"email,name\n" + b"a" * PART_BYTES)
    reader = bucket.reader(bucket.find(shown(engine, batch_id)["source_object"]))
    assert len(reader.read(PART_BYTES)) == PART_BYTES
    s3.put_object(Bucket=bucket.name, Key=shown(engine, batch_id)["source_object"], Body=b"b" * PART_BYTES * 2)
    with pytest.raises(Exception, match="imports/"):
        reader.read(1)


def test_upload_that_never_came_fails_once_its_url_has_expired(engine: sa.Engine, bucket: FileBucket) -> None:
    batch_id = pending(engine)["id"]
    with engine.begin() as connection:
        assert import_files.unfinished(connection) == []
        connection.execute(sa.update(batches).values(updated_at=sa.func.now() - sa.text("interval '2 hours'")))
        assert import_files.unfinished(connection) == [batch_id]
    run(engine, bucket, batch_id)
    row = shown(engine, batch_id)
    assert (row["status"], row["failure_reason"]) == ("failed", "No file was uploaded while the upload URL was valid.")


def test_abandoned_import_is_found(engine: sa.Engine, bucket: FileBucket, s3: Any) -> None:
    batch_id = upload(engine, bucket, s3, b"email,name\n" + rows(6_000))
    assert work(engine, bucket, batch_id, AT_ONCE)
    with engine.begin() as connection:
        assert import_files.unfinished(connection) == []
        connection.execute(sa.update(batches).values(updated_at=sa.func.now() - sa.text("interval '11 min'")))
        assert import_files.unfinished(connection) == [batch_id]


def test_import_that_crashes_again_and_again_is_given_up(engine: sa.Engine, bucket: FileBucket, s3: Any) -> None:
    batch_id = upload(engine, bucket, s3, GOOD)
    file = bucket.find(shown(engine, batch_id)["source_object"])
    for _ in range(import_files.MOST_RUNS_WITHOUT_PROGRESS):
        import_files._begin(engine, batch_id, file)
    run(engine, bucket, batch_id)
    row = shown(engine, batch_id)
    assert row["status"] == "failed"
    assert "interrupted 5 times after row 0" in row["failure_reason"]


def test_file_with_too_many_rows_fails(
    engine: sa.Engine, bucket: FileBucket, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploaded_files, "MAX_ROWS", 10_000)
    batch_id = upload(engine, bucket, s3, b"email,name\n" + rows(10_001))
    run(engine, bucket, batch_id)
    row = shown(engine, batch_id)
    assert (row["status"], row["failure_reason"]) == ("failed", "The file has more than 10,000 rows. Split it.")


def test_batch_that_is_deleted_while_it_is_imported_is_gone(engine: sa.Engine, bucket: FileBucket, s3: Any) -> None:
    batch_id = upload(engine, bucket, s3, b"email,name\n" + rows(6_000))
    assert work(engine, bucket, batch_id, AT_ONCE)
    with engine.begin() as connection:
        assert lead_batches.delete(connection, batch_id)
    run(engine, bucket, batch_id)
    with engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(leads)) == 0


def test_large_batch_is_deleted_in_parts(
    engine: sa.Engine, bucket: FileBucket, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lead_batches, "LEADS_PER_DELETION", 1_000)
    batch_id = upload(engine, bucket, s3, b"email,name\n" + rows(3_500))
    run(engine, bucket, batch_id)
    with engine.begin() as connection:
        assert not lead_batches.delete(connection, batch_id)
    assert shown(engine, batch_id)["status"] == "deleting"
    assert work(engine, bucket, batch_id, time.monotonic() - 1)
    run(engine, bucket, batch_id)
    with engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(batches)) == 0
        assert connection.scalar(sa.select(sa.func.count()).select_from(leads)) == 0


def test_chunk_is_not_imported_into_a_batch_that_is_being_deleted(
    engine: sa.Engine, bucket: FileBucket, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lead_batches, "LEADS_PER_DELETION", 1_000)
    batch_id = upload(engine, bucket, s3, b"email,name\n" + rows(6_000))
    assert work(engine, bucket, batch_id, AT_ONCE)
    with engine.begin() as connection:
        lead_batches.delete(connection, batch_id)
    with pytest.raises(Conflict), engine.begin() as connection:
        import_files._note_progress(connection, batch_id)


def test_rows_as_large_as_they_may_be_do_not_fill_the_memory(
    engine: sa.Engine, bucket: FileBucket, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_leads, "BYTES_PER_CHUNK", 2_000_000)
    header = b"email," + b",".join(b"c%d" % number for number in range(90)) + b"\n"
    row = b",".join([b"x" * 9_000] * 90) + b"\n"
    content = header + b"".join(b"lead%d@acme.com," % number + row for number in range(100))
    batch_id = upload(engine, bucket, s3, content)
    del content
    before = psutil.Process().memory_info().rss
    run(engine, bucket, batch_id)
    assert counts(engine, batch_id) == (100, 100, 0, 0)
    assert psutil.Process().memory_info().rss - before < 400_000_000


def test_person_who_opted_out_is_suppressed_in_the_background_too(
    engine: sa.Engine, bucket: FileBucket, s3: Any
) -> None:
    with engine.begin() as connection:
        campaign_id = make_campaign(connection, ["ann@acme.com", "bob@acme.com"], [NO_DELAY])
    lifecycle.start_campaign(engine, campaign_id)
    batch_id = upload(engine, bucket, s3, b"email,Opted out of email: News\nann@acme.com,true\neve@acme.com,false\n")
    run(engine, bucket, batch_id)
    assert counts(engine, batch_id) == (2, 1, 0, 1)
    assert statuses(engine, campaign_id) == {"pending": 1, "skipped": 1}
    with engine.connect() as connection:
        assert connection.scalars(sa.select(suppressions.c.value)).all() == ["ann@acme.com"]


def test_value_that_was_left_out_is_in_the_file_of_rejects(engine: sa.Engine, bucket: FileBucket, s3: Any) -> None:
    batch_id = upload(engine, bucket, s3, b"email,phone\nann@acme.com," + b"1" * 51 + b"\n")
    run(engine, bucket, batch_id)
    assert counts(engine, batch_id) == (1, 1, 0, 0)
    _, (row, field, code, message, *cells) = rejects(engine, s3, bucket, batch_id)
    assert (row, field, code, cells) == ("2", "phone", "too_long", ["ann@acme.com", "1" * 51])
    assert message.endswith("The lead was imported without it.")
