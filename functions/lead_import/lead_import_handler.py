"""The Lambda that imports uploaded files and finishes the deletion of large lead batches, in the background.

    {"Records": […]}                              files have arrived in the bucket
    {"bucket": "…", "lead_batch_id": "…"}         go on with this lead batch
    {"bucket": "…"}                               go on with those that were left behind (every ten minutes)

The bucket is not among the settings: it notifies the function, and could not be made if it needed it to be there first.
An invocation ends before its time is up and invokes the next one. One that crashes is repeated by Lambda and goes on.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_plus
from uuid import UUID

import botocore.session
import sqlalchemy as sa
from aws_lambda_powertools.logging import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from sendledger import database, large_imports
from sendledger.file_bucket import FileBucket
from sendledger.settings import DatabaseSettings

SPARE_SECONDS = 90.0
"""Kept free before the Lambda's own timeout: the last chunk may wait for others, up to a statement's longest time."""

logger = Logger()


@functools.cache
def _engine() -> sa.Engine:
    return database.engine(DatabaseSettings.read())


@functools.cache
def _bucket(name: str) -> FileBucket:
    return FileBucket(name)


@logger.inject_lambda_context
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> None:
    deadline = time.monotonic() + context.get_remaining_time_in_millis() / 1000 - SPARE_SECONDS
    if "Records" in event or "lead_batch_id" in event:
        for bucket, lead_batch_id in _asked_for(event):
            if large_imports.work(_engine(), _bucket(bucket), lead_batch_id, deadline):
                _go_on(context, bucket, lead_batch_id)
        return
    with _engine().begin() as connection:
        left_behind = large_imports.unfinished(connection)
    for lead_batch_id in left_behind:
        logger.warning("Goes on with what was left behind", extra={"lead_batch_id": str(lead_batch_id)})
        _go_on(context, event["bucket"], lead_batch_id)


def _asked_for(event: dict[str, Any]) -> Iterator[tuple[str, UUID]]:
    if "lead_batch_id" in event:
        yield event["bucket"], UUID(event["lead_batch_id"])
    for record in event.get("Records", []):
        # https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
        key = unquote_plus(record["s3"]["object"]["key"])
        lead_batch_id = large_imports.lead_batch_of(key)
        if lead_batch_id is None:
            logger.warning("A file that no lead batch waits for", extra={"object_key": key})
        else:
            yield record["s3"]["bucket"]["name"], lead_batch_id


def _go_on(context: LambdaContext, bucket: str, lead_batch_id: UUID) -> None:
    payload = json.dumps({"bucket": bucket, "lead_batch_id": str(lead_batch_id)})
    client = botocore.session.get_session().create_client("lambda")
    client.invoke(FunctionName=context.function_name, InvocationType="Event", Payload=payload)
