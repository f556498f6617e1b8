"""Files that neither a template nor a campaign has are deleted, after a while; all others stay."""

from __future__ import annotations

import datetime as dt
import time
import uuid

import pytest
import sqlalchemy as sa

from sendledger.campaigns import lifecycle
from sendledger.content import attachments
from sendledger.content.attachment_rules import CheckedFile
from sendledger.files import unused_files
from sendledger.files.file_bucket import FileBucket, NoSuchFile
from sendledger.files.unused_files import remove_unused_files
from testbed.campaigns import make_campaign, make_template
from testbed.databases import working_as
from testbed.object_store import bucket, object_store, s3

__all__ = ["bucket", "object_store", "s3"]

NO_DEADLINE = time.monotonic() + 3600


def store(bucket: FileBucket) -> uuid.UUID:
    id_ = uuid.uuid4()
    bucket.store(f"attachments/{id_}", b"content", "application/pdf")
    return id_


def attach(connection: sa.Connection, template_id: uuid.UUID, id_: uuid.UUID) -> None:
    file = CheckedFile("a.pdf", "application/pdf", None, b"content")
    attachments.attach(connection, template_id, id_, file, "content", "test")
    connection.commit()


def is_there(bucket: FileBucket, id_: uuid.UUID) -> bool:
    try:
        bucket.content_of(f"attachments/{id_}", 100)
    except NoSuchFile:
        return False
    return True


def sweep(engine: sa.Engine, bucket: FileBucket) -> int:
    with working_as("files", engine) as files_engine:
        return remove_unused_files(files_engine, bucket, attachments.FILES, NO_DEADLINE)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of this moment are old enough."""
    monkeypatch.setattr(unused_files, "KEPT_DAYS", -1)


@pytest.mark.usefixtures("at_once")
def test_only_files_without_a_reference_are_deleted(
    engine: sa.Engine, connection: sa.Connection, bucket: FileBucket
) -> None:
    template_id = make_template(connection)
    of_template, of_campaign, unused = (store(bucket) for _ in range(3))
    attach(connection, template_id, of_campaign)
    lifecycle.start_campaign(engine, make_campaign(connection, 1, email_template_id=template_id))
    attachments.detach(connection, template_id, of_campaign, "test")
    attach(connection, template_id, of_template)
    bucket.store("exports/old.csv", b"a", "text/csv")
    of_variant = store(bucket)
    connection.execute(
        sa.text("""
            INSERT INTO campaign_step_variants
                (campaign_id, step_number, variant, weight, subject, body_text, attachments)
            SELECT campaign_id, 1, 1, 1, 'a', 'b', jsonb_build_array(jsonb_build_object('id', CAST(:id AS text)))
            FROM campaign_steps
        """),
        {"id": str(of_variant)},
    )
    connection.commit()
    assert sweep(engine, bucket) == 1
    kept = [is_there(bucket, id_) for id_ in (of_template, of_campaign, of_variant, unused)]
    assert kept == [True, True, True, False]
    assert bucket.find("exports/old.csv").size == 1


def test_young_files_stay(engine: sa.Engine, bucket: FileBucket) -> None:
    id_ = store(bucket)
    assert sweep(engine, bucket) == 0
    assert is_there(bucket, id_)


@pytest.mark.usefixtures("at_once")
def test_more_files_than_one_list_has_are_deleted(engine: sa.Engine, bucket: FileBucket) -> None:
    for _ in range(1005):
        store(bucket)
    assert sweep(engine, bucket) == 1005
    assert list(bucket.keys_before(dt.datetime.now(dt.UTC) + dt.timedelta(days=1), "attachments/")) == [[]]


def test_attachment_is_not_removed_while_a_campaign_copies_it(
    engine: sa.Engine, connection: sa.Connection, bucket: FileBucket
) -> None:
    template_id = make_template(connection)
    attach(connection, template_id, id_ := store(bucket))
    with engine.begin() as starting:
        assert len(attachments.attached_files(starting, {template_id})[template_id]) == 1
        connection.execute(sa.text("SET lock_timeout = '50ms'"))
        with pytest.raises(sa.exc.DBAPIError, match="lock"):
            attachments.detach(connection, template_id, id_, "test")
