"""The Lambda that reads replies from the bucket into which SES puts them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote_plus

import boto3
import pytest
import sqlalchemy as sa
from moto import mock_aws

import replies_handler
from sendledger.core.tables import replies
from testbed.databases import url_as
from testbed.ses_events import queued

BUCKET = "replies"
MESSAGE = (
    b"Return-Path: <ann@example.com>\r\nFrom: Ann <ann@example.com>\r\nTo: sales@example.com\r\n"
    b"Subject: Re: Hello\r\nMessage-ID: <1@mail.example.com>\r\n\r\nYes!\r\n"
)
CONTEXT: Any = SimpleNamespace(
    function_name="replies", memory_limit_in_mb=512, invoked_function_arn="arn", aws_request_id=str(uuid.uuid4())
)


@pytest.fixture
def bucket(engine: sa.Engine, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """S3 with an empty bucket, and the function set up to read from it."""
    settings = {
        "DATABASE_URL": url_as("events", database_url),
        "UNSUBSCRIBE_KEYS": "k1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    caches = (replies_handler._engine, replies_handler._settings, replies_handler._s3)
    with mock_aws():
        for cached in caches:
            cached.cache_clear()
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket=BUCKET)
        yield s3
        replies_handler._engine().dispose()
        for cached in caches:
            cached.cache_clear()


def put(s3: Any, key: str, message: bytes) -> dict[str, Any]:
    """What S3 says of a new object, as it comes from the queue."""
    s3.put_object(Bucket=BUCKET, Key=key, Body=message)
    place = {"bucket": {"name": BUCKET}, "object": {"key": quote_plus(key)}}
    return queued({"Records": [{"eventSource": "aws:s3", "s3": place}]})


def stored(engine: sa.Engine) -> list[sa.RowMapping]:
    with engine.connect() as connection:
        return list(connection.execute(sa.select(replies)).mappings())


def test_a_message_in_the_bucket_becomes_a_reply(engine: sa.Engine, bucket: Any) -> None:
    replies_handler.lambda_handler(put(bucket, "replies/a b+c", MESSAGE), CONTEXT)
    (reply,) = stored(engine)
    assert (reply["source"], reply["from_address"], reply["body_text"]) == ("ses", "ann@example.com", "Yes!\r\n")


def test_an_event_that_comes_again_changes_nothing(engine: sa.Engine, bucket: Any) -> None:
    event = put(bucket, "replies/a", MESSAGE)
    for _ in range(3):
        replies_handler.lambda_handler(event, CONTEXT)
    assert len(stored(engine)) == 1


def test_junk_is_read_somehow(engine: sa.Engine, bucket: Any) -> None:
    replies_handler.lambda_handler(put(bucket, "replies/a", bytes(range(256)) * 100), CONTEXT)
    replies_handler.lambda_handler(put(bucket, "replies/b", b""), CONTEXT)
    assert len(stored(engine)) == 2


def test_nothing_beyond_ten_megabytes_is_read(engine: sa.Engine, bucket: Any) -> None:
    attachment = b"--b\r\nContent-Type: image/png\r\n\r\n" + b"x" * 12 * 1024 * 1024
    headers, _, text = MESSAGE.partition(b"\r\n\r\n")
    parts = b"\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n" + text + attachment
    large = headers + b"\r\nContent-Type: multipart/mixed; boundary=b" + parts
    replies_handler.lambda_handler(put(bucket, "replies/a", large), CONTEXT)
    assert stored(engine)[0]["body_text"].strip() == "Yes!"


def test_the_message_with_which_ses_tries_the_bucket_is_no_reply(engine: sa.Engine, bucket: Any) -> None:
    replies_handler.lambda_handler(put(bucket, "replies/AMAZON_SES_SETUP_NOTIFICATION", MESSAGE), CONTEXT)
    assert stored(engine) == []


def test_the_notification_with_which_s3_tries_the_queue_is_no_reply(engine: sa.Engine, bucket: Any) -> None:
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html"""
    tried = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": BUCKET, "RequestId": "1", "HostId": "1"}
    replies_handler.lambda_handler(queued(tried), CONTEXT)
    assert stored(engine) == []


def test_a_message_that_cannot_be_fetched_fails_so_that_it_is_retried(engine: sa.Engine, bucket: Any) -> None:
    event = put(bucket, "replies/a", MESSAGE)
    bucket.delete_object(Bucket=BUCKET, Key="replies/a")
    with pytest.raises(Exception, match="NoSuchKey"):
        replies_handler.lambda_handler(event, CONTEXT)
