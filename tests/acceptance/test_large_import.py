"""A list that is too large for a request: uploaded, imported in the background, killed half-way, exported again."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import psutil
import sqlalchemy as sa

from local.stack import LocalStack
from testbed import lead_files
from testbed.invariants import wait_for
from tests.acceptance.campaign_story import act, call, make_workflow

ROWS = int(os.environ.get("IMPORT_ROWS", "60000"))
"""A million takes minutes: IMPORT_ROWS=1000000."""

BUCKET = "sendledger-filebucket"


def create_upload(api: httpx.Client) -> Any:
    return call(api, "POST", "/v1/lead-batches/uploads", 201, json={"name": "Fair", "file_name": "fair.csv"})


def put(upload: Any, content: bytes | Path) -> None:
    """As `curl --upload-file` would."""
    body = content.read_bytes() if isinstance(content, Path) else content
    answer = httpx.put(upload["upload_url"], headers=upload["upload_headers"], content=body, timeout=300)
    assert answer.status_code == 200, answer.text


def batch(api: httpx.Client, upload: Any) -> Any:
    return call(api, "GET", f"/v1/lead-batches/{upload['id']}")


def counts(shown: Any) -> tuple[int, int, int, int]:
    return (
        shown["total_leads"],
        shown["successful_imports"],
        shown["duplicates_skipped"],
        shown["failed_imports"],
    )


def importer() -> psutil.Process:
    """The process that runs the import function."""
    (found,) = (
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE and "lead_import_handler.lambda_handler" in child.cmdline()
    )
    return found


def download(url: str) -> list[list[str]]:
    answer = httpx.get(url, timeout=300)
    assert answer.status_code == 200
    return list(csv.reader(io.StringIO(answer.text, newline="")))


def export(api: httpx.Client, stack: LocalStack, **asked: Any) -> list[dict[str, str]]:
    """The rows of an export that is asked for, written and downloaded."""
    created = call(api, "POST", "/v1/exports", 202, json=asked)
    assert created["status"] == "pending"
    stack.wait_until_idle()
    written = call(api, "GET", f"/v1/exports/{created['id']}")
    assert (written["status"], written["failure_reason"]) == ("completed", None)
    header, *rows = download(written["download_url"])
    assert written["rows_written"] == len(rows)
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_large_file_survives_a_killed_importer_without_a_duplicate(
    api: httpx.Client, stack: LocalStack, engine: sa.Engine, tmp_path: Path
) -> None:
    file = tmp_path / "leads.csv"
    expected = lead_files.write(file, ROWS)
    upload = create_upload(api)
    assert batch(api, upload)["status"] == "pending"
    put(upload, file)
    written = sa.text("SELECT total_leads FROM lead_batches WHERE id = :id")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        wait_for(lambda: connection.scalar(written, {"id": upload["id"]}) >= ROWS // 3, "a third of the rows")
    process = importer()
    process.suspend()
    assert ROWS // 3 <= batch(api, upload)["total_leads"] < ROWS, "its progress can be watched"
    memory = process.memory_info().rss
    process.kill()
    stack.wait_until_idle()
    killed = batch(api, upload)
    assert killed["status"] == "importing"
    assert ROWS // 3 <= killed["total_leads"] < ROWS
    # What Lambda does with an asynchronous invocation that has failed; and S3 may tell of an object twice.
    again = {"bucket": BUCKET, "lead_batch_id": upload["id"]}
    stack.invoke("LeadImportFunction", again)
    done = batch(api, upload)
    stack.invoke("LeadImportFunction", again)
    assert batch(api, upload)["updated_at"] == done["updated_at"]
    assert (done["status"], done["failure_reason"]) == ("completed", None)
    assert counts(done) == (ROWS, expected["imported"], expected["duplicates"], expected["errors"])
    with engine.connect() as connection:
        stored = connection.execute(
            sa.text("SELECT count(*), count(DISTINCT lower(email)) FROM leads WHERE batch_id = :id"),
            {"id": upload["id"]},
        ).one()
    assert tuple(stored) == (expected["imported"], expected["imported"])
    assert memory < 300_000_000
    header, *rejects = download(done["rejects_url"])
    assert header[:5] == ["rejected_row", "rejected_field", "rejected_code", "rejected_message", "Email"]
    assert len(rejects) == expected["errors"]
    assert len({row[0] for row in rejects}) == len(rejects)
    kinds = {"invalid_email", "missing_email", "opted_out", "too_many_fields", "broken_quote", "unclosed_quote"}
    assert {row[2] for row in rejects} == kinds


def test_corrected_rejects_can_be_imported(api: httpx.Client, stack: LocalStack) -> None:
    upload = create_upload(api)
    put(upload, b"Email,Phone,Plan\nann@acme.com,+49 30,Pro\nbob,+49 40,Pro\n")
    stack.wait_until_idle()
    shown = batch(api, upload)
    assert counts(shown) == (2, 1, 0, 1)
    answer = httpx.get(shown["rejects_url"])
    assert answer.headers["content-disposition"].startswith('attachment; filename="rejects-')
    assert "'+49 40" in answer.text
    second = create_upload(api)
    put(second, answer.text.replace("bob", "bob@acme.com").encode())
    stack.wait_until_idle()
    assert counts(batch(api, second)) == (1, 1, 0, 0)
    (lead,) = call(api, "GET", "/v1/leads", params={"email": "bob@acme.com"})["items"]
    assert (lead["phone"], lead["custom_fields"]) == ("+49 40", {"Plan": "Pro"})


def test_exported_ledger_shows_for_each_lead_what_it_got_or_why_not(api: httpx.Client, stack: LocalStack) -> None:
    upload = create_upload(api)
    put(upload, b"Email,Company\nann@acme.com,=1+1\nbob@acme.com,Acme\nsue@acme.com,Acme\neve@acme.com,Acme\n")
    stack.wait_until_idle()
    call(api, "POST", "/v1/suppressions", 201, json={"value": "bob@acme.com"})
    leads = call(api, "GET", "/v1/leads", params={"batch_id": upload["id"]})["items"]
    (sue,) = (lead for lead in leads if lead["email"] == "sue@acme.com")
    call(api, "PATCH", f"/v1/leads/{sue['id']}", json={"status": "not_interested"})
    fields = {"name": "Campaign", "batch_ids": [upload["id"]], "workflow_id": make_workflow(api, [0, 3])}
    campaign_id = call(api, "POST", "/v1/campaigns", 201, json=fields)["id"]
    act(api, campaign_id, "start")
    stack.tick()
    rows = export(api, stack, kind="campaign_ledger", campaign_id=campaign_id)
    told = Counter((row["email"], row["step"], row["status"], row["reason"]) for row in rows)
    assert told == {
        ("ann@acme.com", "1", "sent", ""): 1,
        ("ann@acme.com", "2", "pending", ""): 1,
        ("eve@acme.com", "1", "sent", ""): 1,
        ("eve@acme.com", "2", "pending", ""): 1,
        ("bob@acme.com", "", "left_out", "suppressed"): 1,
        ("sue@acme.com", "", "left_out", "lead_not_interested"): 1,
    }
    (sent,) = (row for row in rows if row["email"] == "ann@acme.com" and row["step"] == "1")
    assert sent["sent_to"] == "ann@acme.com"
    assert sent["sent_at"].endswith("Z")
    assert sent["company_name"] == "'=1+1"


def test_exported_leads_are_those_of_the_filter(api: httpx.Client, stack: LocalStack) -> None:
    uploads = [create_upload(api), create_upload(api)]
    for number, upload in enumerate(uploads):
        put(upload, f'Email,First Name,Plan,Tags\nlead{number}@acme.com,Zo\u00eb,Pro,"a,b"\n'.encode())
    stack.wait_until_idle()
    (row,) = export(api, stack, kind="leads", filters={"batch_id": uploads[1]["id"]})
    assert (row["email"], row["first_name"], row["tags"]) == ("lead1@acme.com", "Zo\u00eb", "a, b")
    assert row["custom_fields"] == '{"Plan": "Pro"}'
    assert len(export(api, stack, kind="leads")) == 2
