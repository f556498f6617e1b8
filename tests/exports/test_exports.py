"""Exports hold every row once, whatever is in the cells, and say of each lead of a campaign why it got what it got."""

from __future__ import annotations

import csv
import datetime as dt
import io
import uuid
from collections.abc import Sequence
from typing import Any

import pytest
import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from sendledger.campaigns import background_work, lifecycle, schedule_emails
from sendledger.core.reader import Source
from sendledger.core.tables import audit_log, campaign_leads, leads, left_out_leads
from sendledger.core.tables import exports as table
from sendledger.exports import export_rows, exports
from sendledger.exports.write_export import write_export
from sendledger.files import file_bucket
from sendledger.files.file_bucket import FileBucket
from sendledger.files.write_csv import cells_as_meant, csv_bytes
from sendledger.leads import erase_leads
from sendledger.leads import leads as lead_store
from sendledger.leads.import_leads import import_file
from sendledger.policy import sender_addresses
from sendledger.sending import tick
from sendledger.sending.tick import Resources
from testbed.campaigns import DAY, campaign_row, make_batch, make_campaign
from testbed.databases import working_as
from testbed.object_store import bucket, object_store, s3

__all__ = ["bucket", "object_store", "s3"]

EMAIL, STATUS, REASON = (export_rows.LEDGER_HEADER.index(name) for name in ("email", "status", "reason"))
NOT_YET = float("inf")
SOON = dt.timedelta(0)


def create(engine: sa.Engine, kind: str = "leads", campaign_id: uuid.UUID | None = None, **filters: str) -> uuid.UUID:
    with engine.begin() as connection:
        return uuid.UUID(str(exports.create(connection, kind, campaign_id, filters, "ann")["id"]))


def shown(engine: sa.Engine, export_id: uuid.UUID) -> sa.RowMapping:
    with engine.begin() as connection:
        return exports.get(connection, export_id)


def write(engine: sa.Engine, bucket: FileBucket, export_id: uuid.UUID, deadline: float) -> None:
    with working_as("files", engine) as as_function:
        write_export(as_function, bucket, export_id, deadline)


def rows(engine: sa.Engine, bucket: FileBucket, s3: Any, export_id: uuid.UUID) -> list[dict[str, str]]:
    """Of the file that is written now."""
    write(engine, bucket, export_id, NOT_YET)
    row = shown(engine, export_id)
    assert (row["status"], row["failure_reason"]) == ("completed", None)
    body = s3.get_object(Bucket=bucket.name, Key=row["object_key"])["Body"].read()
    header, *found = csv.reader(io.StringIO(body.decode(), newline=""))
    assert len(found) == row["rows_written"]
    return [dict(zip(header, each, strict=True)) for each in found]


def addresses(count: int) -> list[str]:
    return [f"lead{number}@acme.com" for number in range(count)]


def test_every_lead_is_exported_once_whatever_the_size_of_a_page(
    engine: sa.Engine, connection: sa.Connection, bucket: FileBucket, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_batch(connection, addresses(25))
    connection.commit()
    monkeypatch.setattr(export_rows, "ROWS_PER_PAGE", 10)
    found = rows(engine, bucket, s3, create(engine))
    assert sorted(row["email"] for row in found) == sorted(addresses(25))


def test_file_that_is_written_in_parts_is_whole(
    engine: sa.Engine, connection: sa.Connection, bucket: FileBucket, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_bucket, "PART_BYTES", 5 * 1024 * 1024)
    make_batch(connection, addresses(700), notes="n" * 10_000)
    connection.commit()
    found = rows(engine, bucket, s3, create(engine))
    assert len({row["email"] for row in found}) == 700
    assert {row["notes"] for row in found} == {"n" * 10_000}


def test_leads_are_filtered_by_status_and_batch(
    engine: sa.Engine, connection: sa.Connection, bucket: FileBucket, s3: Any
) -> None:
    first = make_batch(connection, ["ann@acme.com", "bob@acme.com"])
    make_batch(connection, ["eve@acme.com"], status="contacted")
    connection.execute(sa.update(leads).where(leads.c.email == "bob@acme.com").values(status="contacted"))
    connection.commit()
    export_id = create(engine, batch_id=str(first), status="contacted")
    assert [row["email"] for row in rows(engine, bucket, s3, export_id)] == ["bob@acme.com"]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_cell_that_a_spreadsheet_would_calculate_is_neutralised(
    engine: sa.Engine, connection: sa.Connection, bucket: FileBucket, s3: Any, start: str
) -> None:
    make_batch(connection, ["ann@acme.com"], notes=f"{start}HYPERLINK(1)", job_title="a=b")
    connection.commit()
    (row,) = rows(engine, bucket, s3, create(engine))
    assert row["notes"].startswith(f"'{start}")
    assert row["job_title"] == "a=b"


def test_ledger_has_a_reason_for_each_lead_without_an_email(
    engine: sa.Engine,
    connection: sa.Connection,
    bucket: FileBucket,
    s3: Any,
    resources: Resources,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(export_rows, "LEADS_PER_LOOK", 2)
    given = ["ann@acme.com", "ANN@acme.com", None, "not an address", "sue@acme.com", "bob@gone.com"]
    batch_id = make_batch(connection, given)
    connection.execute(sa.update(leads).where(leads.c.email == "sue@acme.com").values(status="converted"))
    connection.execute(sa.text("INSERT INTO suppressions (value, reason) VALUES ('gone.com', 'manual')"))
    campaign_id = make_campaign(connection, batch_ids=[batch_id], delays=[SOON, DAY])
    lifecycle.start_campaign(engine, campaign_id)
    late = make_batch(connection, ["late@acme.com"])
    lead_id = connection.scalar(sa.select(leads.c.id).where(leads.c.batch_id == late))
    connection.execute(sa.insert(campaign_leads).values(campaign_id=campaign_id, lead_id=lead_id))
    connection.commit()
    tick.send_due_emails(resources, 20)
    found = rows(engine, bucket, s3, create(engine, "campaign_ledger", campaign_id))
    ann = [row for row in found if row["email"].lower() == "ann@acme.com"]
    assert sorted((row["step"], row["status"], row["reason"]) for row in ann) == [
        ("", "left_out", "duplicate_address"),
        ("1", "sent", ""),
        ("2", "pending", ""),
    ]
    assert {row["email"]: (row["status"], row["reason"]) for row in found if row not in ann} == {
        "": ("left_out", "no_address"),
        "not an address": ("left_out", "invalid_address"),
        "sue@acme.com": ("left_out", "lead_converted"),
        "bob@gone.com": ("left_out", "suppressed"),
        "late@acme.com": ("left_out", "added_after_start"),
    }


def left_out(found: list[dict[str, str]]) -> dict[str, str]:
    return {row["email"]: row["reason"] for row in found if row["status"] == "left_out"}


def test_ledger_shows_the_reason_of_the_start_although_the_lead_has_changed(
    engine: sa.Engine, connection: sa.Connection, bucket: FileBucket, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_rows, "ROWS_PER_PAGE", 1)
    monkeypatch.setattr(export_rows, "_LEFT_OUT", export_rows._LEFT_OUT.limit(1))
    connection.execute(sa.text("INSERT INTO suppressions (value, reason) VALUES ('gone.com', 'manual')"))
    campaign_id = make_campaign(connection, ["ann@acme.com", "ANN@acme.com", "bob@gone.com", "eve@acme.com", "no-at"])
    connection.execute(sa.update(leads).where(leads.c.email == "eve@acme.com").values(status="converted"))
    connection.commit()
    lifecycle.start_campaign(engine, campaign_id)
    connection.execute(sa.text("UPDATE suppressions SET removed_at = now()"))
    connection.execute(sa.update(leads).values(status="new"))
    connection.execute(sa.update(leads).where(leads.c.email == "no-at").values(email="sue@acme.com"))
    doubles = sa.select(leads.c.email).join(left_out_leads).where(left_out_leads.c.reason == "duplicate_address")
    double = connection.scalar(doubles)
    connection.commit()
    assert left_out(rows(engine, bucket, s3, create(engine, "campaign_ledger", campaign_id))) == {
        double: "duplicate_address",
        "bob@gone.com": "suppressed",
        "eve@acme.com": "lead_converted",
        "sue@acme.com": "invalid_address",
    }


def test_ledger_keeps_the_reasons_of_deleted_and_erased_leads_without_their_names(
    engine: sa.Engine, connection: sa.Connection, bucket: FileBucket, s3: Any
) -> None:
    campaign_id = make_campaign(connection, ["ann@acme.com", "eve at acme", "bob at acme"])
    lifecycle.start_campaign(engine, campaign_id)
    ids = {row.email: row.id for row in connection.execute(sa.select(leads.c.email, leads.c.id))}
    lead_store.delete(connection, ids["eve at acme"])
    for address in ("bob at acme", "ann@acme.com"):
        erase_leads.erase(connection, ids[address], "ann", keep_suppressed=False)
    connection.commit()
    found = rows(engine, bucket, s3, create(engine, "campaign_ledger", campaign_id))
    assert sorted((row["lead_id"], row["email"], row["status"], row["reason"]) for row in found) == [
        ("", "", "left_out", "invalid_address"),
        ("", "", "left_out", "invalid_address"),
        ("", "", "skipped", "lead_erased"),
    ]


def test_ledger_of_a_campaign_that_was_cancelled_while_it_was_scheduled_names_every_lead(
    engine: sa.Engine, connection: sa.Connection, bucket: FileBucket, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule_emails, "ROWS_PER_BUCKET", 3)
    monkeypatch.setattr(lifecycle, "CALL_BUDGET", -1.0)
    campaign_id = make_campaign(connection, [*addresses(10), None])
    lifecycle.start_campaign(engine, campaign_id)
    before = rows(engine, bucket, s3, create(engine, "campaign_ledger", campaign_id))
    assert len(before) == 11
    assert "not_scheduled_yet" in left_out(before).values()
    lifecycle.cancel_campaign(engine, campaign_id)
    found = rows(engine, bucket, s3, create(engine, "campaign_ledger", campaign_id))
    assert sorted(row["email"] for row in found) == sorted(["", *addresses(10)])
    assert {row["reason"] for row in found if row["email"]} == {"campaign_cancelled"}
    assert left_out(found)[""] == "no_address"


def test_ledger_that_is_read_while_the_campaign_starts_is_that_of_the_moment_in_which_it_was_begun(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    campaign_id = make_campaign(connection, [*addresses(3), "no-at"])
    with working_as("files", engine) as as_function:
        pages = export_rows.ledger_rows(Source(as_function, None), campaign_id)
        found = list(next(pages))
        lifecycle.start_campaign(engine, campaign_id)
        found += (row for page in pages for row in page)
    told = [(row[EMAIL], row[STATUS], row[REASON]) for row in found]
    unstarted = [(address, "left_out", "not_started") for address in addresses(3)]
    assert sorted(told) == [*unstarted, ("no-at", "left_out", "invalid_address")]


def test_ledger_names_the_time_zone_and_the_sender_of_each_email(engine: sa.Engine, connection: sa.Connection) -> None:
    values = {"from_address": "Ann <ann@example.com>", "daily_cap": None, "status": "active"}
    sender = sender_addresses.create(connection, values)["id"]
    batch_id = make_batch(connection, ["lead@example.com"], time_zone="Asia/Tokyo")
    campaign_id = make_campaign(connection, batch_ids=[batch_id], sender_ids=[sender])
    lifecycle.start_campaign(engine, campaign_id)
    with working_as("files", engine) as as_function:
        (row,) = [row for page in export_rows.ledger_rows(Source(as_function, None), campaign_id) for row in page]
    told = dict(zip(export_rows.LEDGER_HEADER, row, strict=True))
    assert (told["time_zone"], told["sender"]) == ("Asia/Tokyo", "ann@example.com")


def test_ledger_that_is_read_while_a_start_goes_on_has_every_lead_once(
    engine: sa.Engine, connection: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule_emails, "ROWS_PER_BUCKET", 5)
    monkeypatch.setattr(export_rows, "ROWS_PER_PAGE", 2)
    for name in ("_LEDGER", "_LEFT_OUT"):
        monkeypatch.setattr(export_rows, name, getattr(export_rows, name).limit(2))
    monkeypatch.setattr(export_rows, "LEADS_PER_LOOK", 3)
    given = [*addresses(20), *(f"lead{number}" for number in range(20))]
    campaign_id = make_campaign(connection, given)
    lifecycle.start_campaign(engine, campaign_id)
    with engine.begin() as working:
        background_work.work_once(working, campaign_id)
    with working_as("files", engine) as as_function:
        found: list[Any] = []
        # Something is written between any two pages.
        for page in export_rows.ledger_rows(Source(as_function, None), campaign_id):
            found += page
            with engine.begin() as working:
                background_work.work_once(working, campaign_id)
    assert campaign_row(engine, campaign_id)["background_work"] == []
    assert sorted(row[EMAIL] for row in found) == sorted(given)
    reasons = {row[REASON] for row in found if row[STATUS] == "left_out"}
    assert reasons == {"invalid_address", "not_scheduled_yet"}


def test_lead_that_came_after_the_start_is_not_given_a_reason_of_today(
    engine: sa.Engine, connection: sa.Connection, bucket: FileBucket, s3: Any
) -> None:
    batch_id = make_batch(connection, ["ann@acme.com"])
    campaign_id = make_campaign(connection, batch_ids=[batch_id])
    lifecycle.start_campaign(engine, campaign_id)
    late = make_batch(connection, ["late at acme"])
    connection.execute(sa.update(leads).where(leads.c.batch_id == late).values(batch_id=batch_id))
    connection.commit()
    found = rows(engine, bucket, s3, create(engine, "campaign_ledger", campaign_id))
    assert left_out(found) == {"late at acme": "added_after_start"}


def test_campaign_that_started_before_reasons_were_kept_is_exported_with_those_of_today(
    engine: sa.Engine, connection: sa.Connection, bucket: FileBucket, s3: Any
) -> None:
    campaign_id = make_campaign(connection, ["ann@acme.com", "ANN@acme.com", None])
    lifecycle.start_campaign(engine, campaign_id)
    connection.execute(sa.delete(left_out_leads))
    connection.commit()
    found = rows(engine, bucket, s3, create(engine, "campaign_ledger", campaign_id))
    assert sorted(row["reason"] for row in found if row["status"] == "left_out") == ["duplicate_address", "no_address"]


def test_ledger_shows_why_an_email_failed(
    engine: sa.Engine,
    connection: sa.Connection,
    bucket: FileBucket,
    s3: Any,
    resources: Resources,
    ses: SesSimulator,
) -> None:
    campaign_id = make_campaign(connection, ["ann@acme.com"])
    lifecycle.start_campaign(engine, campaign_id)
    ses.add_fault("bad_request", address="ann@acme.com")
    tick.send_due_emails(resources, 20)
    (row,) = rows(engine, bucket, s3, create(engine, "campaign_ledger", campaign_id))
    assert (row["status"], row["reason"]) == ("failed", "bad_request")
    assert row["detail"]
    assert row["failed_at"].endswith("Z")


def test_ledger_of_a_draft_names_its_audience(
    engine: sa.Engine, connection: sa.Connection, bucket: FileBucket, s3: Any
) -> None:
    campaign_id = make_campaign(connection, ["ann@acme.com"])
    (row,) = rows(engine, bucket, s3, create(engine, "campaign_ledger", campaign_id))
    assert (row["email"], row["status"], row["reason"]) == ("ann@acme.com", "left_out", "not_started")


def test_export_that_is_not_done_in_time_fails_and_leaves_no_file(
    engine: sa.Engine, connection: sa.Connection, bucket: FileBucket, s3: Any
) -> None:
    export_id = create(engine)
    write(engine, bucket, export_id, 0.0)
    row = shown(engine, export_id)
    assert row["status"] == "failed"
    assert "in time" in row["failure_reason"]
    assert s3.list_objects_v2(Bucket=bucket.name)["KeyCount"] == 0


def test_interrupted_export_is_found_restarted_and_fails_in_the_end(
    engine: sa.Engine, connection: sa.Connection, bucket: FileBucket
) -> None:
    export_id = create(engine)
    for _ in range(exports.MOST_ATTEMPTS):
        with engine.begin() as connection:
            assert exports.begin(connection, export_id)
    with engine.begin() as connection:
        assert exports.unfinished(connection) == []
        connection.execute(sa.update(table).values(updated_at=sa.func.now() - sa.text("interval '11 min'")))
        assert exports.unfinished(connection) == [export_id]
    write(engine, bucket, export_id, NOT_YET)
    assert (shown(engine, export_id)["status"], shown(engine, export_id)["attempts"]) == ("failed", 4)


def test_completed_export_is_not_written_again(
    engine: sa.Engine, connection: sa.Connection, bucket: FileBucket, s3: Any
) -> None:
    export_id = create(engine)
    rows(engine, bucket, s3, export_id)
    before = shown(engine, export_id)
    write(engine, bucket, export_id, NOT_YET)
    assert shown(engine, export_id) == before


def test_export_of_personal_data_is_in_the_audit_log(engine: sa.Engine, connection: sa.Connection) -> None:
    export_id = create(engine, status="new")
    entry = connection.execute(sa.select(audit_log)).mappings().one()
    assert (entry["actor"], entry["action"], entry["entity_id"]) == ("ann", "export.create", str(export_id))


def test_exported_leads_come_back_as_they_were(engine: sa.Engine, bucket: FileBucket, s3: Any) -> None:
    given: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"email": "ann@acme.com", "first_name": "Ann", "last_name": "Lee", "tags": ["VIP", "Blog"]}, {"Plan": "Pro"}),
        ({"email": "bob@acme.com", "contact_name": "Ray, Bob", "notes": "=1+1\n-2"}, {"seats": 5, "paid": True}),
        ({"email": "eve@acme.com", "last_name": "Poe", "company_name": "'=Acme", "phone": "+49 1"}, {}),
    ]
    with engine.begin() as connection:
        for fields, custom in given:
            lead_store.create(connection, fields, custom)
        for status, address in (("not_interested", "ann@acme.com"), ("contacted", "bob@acme.com")):
            connection.execute(sa.update(leads).where(leads.c.email == address).values(status=status))
        before = lead_store.list_page(connection, 10, None, sort="created_at").items
    export_id = create(engine)
    rows(engine, bucket, s3, export_id)
    body = s3.get_object(Bucket=bucket.name, Key=shown(engine, export_id)["object_key"])["Body"].read()
    with engine.begin() as connection:
        connection.execute(sa.delete(leads))
        import_file(connection, io.BytesIO(body), {"name": "again"}, "ann")
        after = lead_store.list_page(connection, 10, None, sort="created_at").items
    own = {"id", "source", "batch_id", "created_at", "updated_at"}

    def kept(items: Sequence[Any]) -> list[dict[str, Any]]:
        found = ({name: value for name, value in item.items() if name not in own} for item in items)
        return sorted(found, key=lambda item: str(item["email"]))

    assert kept(after) == kept(before)
    assert [lead["status"] for lead in kept(after)] == ["not_interested", "contacted", "new"]


def test_every_text_is_quoted(engine: sa.Engine, bucket: FileBucket, s3: Any) -> None:
    with engine.begin() as connection:
        lead_store.create(connection, {"email": "ann@acme.com", "company_name": "a;=1+1", "notes": 'say "hi"'}, {})
    export_id = create(engine)
    write(engine, bucket, export_id, NOT_YET)
    body = s3.get_object(Bucket=bucket.name, Key=shown(engine, export_id)["object_key"])["Body"].read().decode()
    header, line = body.split("\r\n")[:2]
    assert header.startswith('"id","email",')
    assert ',"a;=1+1",' in line
    assert ',"say ""hi""",' in line


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@a", "\t=1", "'=1", "\uff1d1", "\uff0b1", "\uff0d1", "\uff20a"])
def test_text_that_begins_like_a_formula_is_shown_and_comes_back(text: str) -> None:
    cell = csv_bytes([[text]]).decode().strip("\r\n").strip('"')
    assert cell == f"'{text}"
    assert cells_as_meant([cell]) == [text]
