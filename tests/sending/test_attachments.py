"""Attachments in the sender: read once, the same as at the start, and what happens where they cannot be read."""

from __future__ import annotations

import threading
import tracemalloc
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from sendledger.campaigns import lifecycle
from sendledger.content import attachments
from sendledger.content.attachment_rules import MOST_BYTES, CheckedFile
from sendledger.files.file_bucket import FileBucket
from sendledger.ledger import claim_emails
from sendledger.sending import attached_files, prepare_emails
from sendledger.sending.attached_files import KEPT_BYTES, AttachedFiles
from sendledger.sending.tick import Resources, send_due_emails
from testbed.campaigns import DAY, NO_DELAY, campaign_row, make_campaign, make_template, pass_time, rows_of, statuses
from testbed.object_store import bucket, object_store, s3
from testbed.senders import sender_resources

__all__ = ["bucket", "object_store", "s3"]

SECONDS = 60.0


@pytest.fixture
def resources(sender_engine: sa.Engine, ses: SesSimulator, bucket: FileBucket) -> Resources:
    return sender_resources(sender_engine, ses.url, FILE_BUCKET=bucket.name)


@pytest.fixture
def template_id(connection: sa.Connection) -> uuid.UUID:
    id_ = make_template(connection, body_html='<p>Hello <img src="cid:logo"></p>')
    connection.commit()
    return id_


def attach(
    connection: sa.Connection,
    bucket: FileBucket,
    template_id: uuid.UUID,
    name: str = "a.pdf",
    content: bytes = b"%PDF-1.7 \xff\x00",
    content_id: str | None = None,
) -> uuid.UUID:
    id_ = uuid.uuid4()
    bucket.store(f"attachments/{id_}", content, "application/octet-stream")
    type_ = "application/pdf" if content_id is None else "image/png"
    attachments.attach(connection, template_id, id_, CheckedFile(name, type_, content_id, content), "content", "test")
    connection.commit()
    return id_


def files(ses: SesSimulator) -> list[list[tuple[str, str | None, bytes]]]:
    """Of each email: names, content ids and contents."""
    return [[(file.file_name, file.content_id, file.content) for file in email.attachments] for email in ses.accepted()]


def test_every_email_of_a_step_has_its_files_and_they_are_read_once(
    engine: sa.Engine,
    connection: sa.Connection,
    resources: Resources,
    ses: SesSimulator,
    bucket: FileBucket,
    template_id: uuid.UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attach(connection, bucket, template_id)
    attach(connection, bucket, template_id, "logo.png", b"\x89PNG", "logo")
    lifecycle.start_campaign(engine, make_campaign(connection, 20, email_template_id=template_id))
    read, content_of = list[str](), FileBucket.content_of

    def counted(self: FileBucket, key: str, most: int) -> bytes:
        read.append(key)
        return content_of(self, key, most)

    monkeypatch.setattr(FileBucket, "content_of", counted)
    assert send_due_emails(resources, SECONDS).sent == 20
    assert files(ses) == [[("a.pdf", None, b"%PDF-1.7 \xff\x00"), ("logo.png", "logo", b"\x89PNG")]] * 20
    assert len(read) == 2


def test_campaign_keeps_the_files_that_it_started_with(
    engine: sa.Engine,
    connection: sa.Connection,
    resources: Resources,
    ses: SesSimulator,
    bucket: FileBucket,
    template_id: uuid.UUID,
) -> None:
    first = attach(connection, bucket, template_id)
    campaign_id = make_campaign(connection, 1, email_template_id=template_id)
    lifecycle.start_campaign(engine, campaign_id)
    attachments.detach(connection, template_id, first, "test")
    attach(connection, bucket, template_id, "other.pdf")
    send_due_emails(resources, SECONDS)
    assert [[name for name, _, _ in each] for each in files(ses)] == [["a.pdf"]]


def test_campaign_that_started_before_attachments_existed_sends_none(
    engine: sa.Engine,
    connection: sa.Connection,
    resources: Resources,
    ses: SesSimulator,
    bucket: FileBucket,
    template_id: uuid.UUID,
) -> None:
    lifecycle.start_campaign(engine, make_campaign(connection, 1, email_template_id=template_id))
    attach(connection, bucket, template_id)
    send_due_emails(resources, SECONDS)
    assert files(ses) == [[]]


def test_refresh_of_a_paused_campaign_takes_the_files_of_now(
    engine: sa.Engine,
    connection: sa.Connection,
    resources: Resources,
    ses: SesSimulator,
    bucket: FileBucket,
    template_id: uuid.UUID,
) -> None:
    campaign_id = make_campaign(connection, 1, email_template_id=template_id)
    lifecycle.start_campaign(engine, campaign_id)
    lifecycle.pause_campaign(engine, campaign_id)
    attach(connection, bucket, template_id)
    lifecycle.resume_campaign(engine, campaign_id, refresh_content=True)
    send_due_emails(resources, SECONDS)
    assert [[name for name, _, _ in each] for each in files(ses)] == [["a.pdf"]]


@pytest.mark.parametrize("with_bucket", [True, False])
def test_campaign_whose_file_is_missing_is_paused_and_says_so(
    engine: sa.Engine,
    connection: sa.Connection,
    sender_engine: sa.Engine,
    ses: SesSimulator,
    bucket: FileBucket,
    template_id: uuid.UUID,
    with_bucket: bool,
) -> None:
    id_ = attach(connection, bucket, template_id)
    campaign_id = make_campaign(connection, 3, email_template_id=template_id)
    other = make_campaign(connection, 1)
    for each in (campaign_id, other):
        lifecycle.start_campaign(engine, each)
    bucket.delete_files([f"attachments/{id_}"])
    environ = {"FILE_BUCKET": bucket.name} if with_bucket else {}
    send_due_emails(sender_resources(sender_engine, ses.url, **environ), SECONDS)
    paused = campaign_row(engine, campaign_id)
    assert paused["status"] == "paused"
    assert set(statuses(engine, campaign_id)) <= {"pending", "cancelled"}
    assert ("a.pdf is not in the bucket" if with_bucket else "FILE_BUCKET") in paused["failure_reason"]
    assert campaign_row(engine, other)["status"] == "completed"


class Forbidding(BaseHTTPRequestHandler):
    """Answers as S3 does where a role may not read: an expired policy, or a key of KMS that was disabled."""

    def do_GET(self) -> None:
        answer = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(params=["no server", "no right"])
def unreadable(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of an S3 that gives no file."""
    if request.param == "no server":
        yield "http://127.0.0.1:9"
        return
    with ThreadingHTTPServer(("127.0.0.1", 0), Forbidding) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_emails_wait_while_the_bucket_cannot_be_read(
    unreadable: str,
    engine: sa.Engine,
    connection: sa.Connection,
    resources: Resources,
    ses: SesSimulator,
    bucket: FileBucket,
    template_id: uuid.UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attach(connection, bucket, template_id)
    campaign_id = make_campaign(connection, 3, email_template_id=template_id)
    lifecycle.start_campaign(engine, campaign_id)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", unreadable)
    attached_files._file_bucket.cache_clear()
    send_due_emails(resources, SECONDS)
    monkeypatch.undo()
    attached_files._file_bucket.cache_clear()
    waiting = [(row["status"], row["error_code"], row["retry_count"]) for row in rows_of(engine, campaign_id)]
    assert (waiting, ses.accepted()) == ([("pending", "files_unreachable", 0)] * 3, [])


def test_files_of_many_steps_are_not_all_kept_in_memory(bucket: FileBucket) -> None:
    listed: list[list[dict[str, Any]]] = []
    for _ in range(8):
        id_ = str(uuid.uuid4())
        bucket.store(f"attachments/{id_}", bytes(MOST_BYTES), "application/octet-stream")
        about = {"file_name": "a.pdf", "content_type": "application/pdf", "content_id": None, "size": MOST_BYTES}
        listed.append([{"id": id_, **about}])
    attached = AttachedFiles(bucket.name)
    tracemalloc.start()
    try:
        for each in listed:
            assert attached.of(each) is not None
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < KEPT_BYTES + MOST_BYTES


def test_answered_step_with_files_is_quoted_without_them(
    engine: sa.Engine,
    connection: sa.Connection,
    resources: Resources,
    ses: SesSimulator,
    bucket: FileBucket,
    template_id: uuid.UUID,
) -> None:
    attach(connection, bucket, template_id)
    campaign_id = make_campaign(connection, ["ann@example.com"], [NO_DELAY, DAY])
    connection.execute(
        sa.text("""
            UPDATE workflow_steps s SET in_thread = step_number = 2, quote = step_number = 2,
                   email_template_id = CASE step_number WHEN 1 THEN :id ELSE s.email_template_id END
            FROM campaigns c WHERE c.id = :campaign_id AND s.workflow_id = c.workflow_id
        """).bindparams(sa.bindparam("id", type_=sa.UUID), sa.bindparam("campaign_id", type_=sa.UUID)),
        {"id": template_id, "campaign_id": campaign_id},
    )
    connection.commit()
    lifecycle.start_campaign(engine, campaign_id)
    send_due_emails(resources, SECONDS)
    pass_time(engine, DAY)
    send_due_emails(resources, SECONDS)
    assert [len(each) for each in files(ses)] == [1, 0]


def test_shared_files_count_for_the_size_of_a_chunk(
    engine: sa.Engine,
    connection: sa.Connection,
    resources: Resources,
    bucket: FileBucket,
    template_id: uuid.UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each email sends them: many large ones at once would not be through before SES is given up."""
    attach(connection, bucket, template_id, content=bytes(60_000))
    lifecycle.start_campaign(engine, make_campaign(connection, 6, email_template_id=template_id))
    chunks, fence = list[int](), claim_emails.fence

    def counted(connection: sa.Connection, emails: list[Any], token: uuid.UUID) -> Any:
        chunks.append(len(emails))
        return fence(connection, emails, token)

    monkeypatch.setattr(prepare_emails, "MAX_CHUNK_BYTES", 100_000)
    monkeypatch.setattr(claim_emails, "fence", counted)
    assert send_due_emails(resources, SECONDS).sent == 6
    assert max(chunks) <= 2
