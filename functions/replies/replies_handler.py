"""The Lambda that reads replies: a queue's S3 events in, for each message that SES has put into the bucket one reply.

S3 and SQS may tell of the same message twice. A message that fails is told again by SQS and then goes to the failure
queue.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_plus

import boto3
import sqlalchemy as sa
from aws_lambda_powertools.logging import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from sendledger.core import database
from sendledger.core.settings import DatabaseSettings, ReplySettings, at_cold_start
from sendledger.core.vocabulary import ReplySource
from sendledger.feedback import replies
from sendledger.feedback.read_reply import MAX_MESSAGE, read_reply

SETUP_NOTIFICATION = "AMAZON_SES_SETUP_NOTIFICATION"
"""The message that SES writes to test a bucket."""

logger = Logger()


@functools.cache
def _engine() -> sa.Engine:
    return database.engine(DatabaseSettings.read())


@functools.cache
def _settings() -> ReplySettings:
    return ReplySettings.read()


@functools.cache
def _s3() -> Any:
    return boto3.client("s3")


at_cold_start(_engine, _settings)


@logger.inject_lambda_context
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> None:
    settings = _settings()
    for bucket, key in _new_objects(event):
        with _s3().get_object(Bucket=bucket, Key=key)["Body"] as body:
            reply = read_reply(body.read(MAX_MESSAGE))
        received = replies.receive(_engine(), reply, ReplySource.SES, settings.stop_on_reply, settings.unsubscribe_keys)
        logger.info(
            "Received a reply",
            extra={
                "object_key": key,
                "reply_id": str(received.id),
                "is_new": received.is_new,
                "automatic": received.automatic,
                "matched_by": received.matched_by,
                "lead_id": received.lead_id and str(received.lead_id),
                "campaign_id": received.campaign_id and str(received.campaign_id),
                "emails_skipped": received.emails_skipped,
            },
        )


def _new_objects(event: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Bucket and key of each message.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
    """
    for queued in event["Records"]:
        # S3 tries the queue with a notification that has no records.
        for record in json.loads(queued["body"]).get("Records", []):
            bucket, key = record["s3"]["bucket"]["name"], unquote_plus(record["s3"]["object"]["key"])
            if not key.endswith(SETUP_NOTIFICATION):
                yield bucket, key
