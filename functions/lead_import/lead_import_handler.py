"""The Lambda for files in the background: it imports uploaded ones, finishes the deletion of large lead batches and
deletes files that nothing needs any more.

    {"Records": […]}                              files have arrived in the bucket
    {"bucket": "…", "lead_batch_id": "…"}         continue with this lead batch
    {"bucket": "…"}                               continue with those that were left behind (every five minutes)
    {"bucket": "…", "lead_change_id": "…"}        continue with this change of many leads
    {"unused_files_of": "…"}                      delete the files of this bucket that nothing needs (once a day)

The bucket is not among the settings: it notifies the function, so the function must exist before the bucket.
An invocation ends before its timeout and invokes the next one. Lambda retries one that crashes, and the retry
continues. The schedule finds batches that are still unfinished after that, or could not be announced.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_plus
from uuid import UUID

import sqlalchemy as sa
from aws_lambda_powertools.logging import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from sendledger.content.attachments import FILES
from sendledger.core import database
from sendledger.core.invoke_function import tell_function
from sendledger.core.settings import DatabaseSettings, at_cold_start
from sendledger.files import unused_files
from sendledger.files.file_bucket import FileBucket
from sendledger.leads import change_leads, import_files

SPARE_SECONDS = 90.0
"""Reserve before the Lambda's own timeout: the last chunk may wait for locks, up to the statement timeout."""

logger = Logger()


@functools.cache
def _engine() -> sa.Engine:
    return database.engine(DatabaseSettings.read())


@functools.cache
def _bucket(name: str) -> FileBucket:
    return FileBucket(name)


at_cold_start(_engine)


@logger.inject_lambda_context
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> None:
    deadline = time.monotonic() + context.get_remaining_time_in_millis() / 1000 - SPARE_SECONDS
    if "unused_files_of" in event:
        removed = unused_files.remove_unused_files(_engine(), _bucket(event["unused_files_of"]), FILES, deadline)
        logger.info("Removed unused files", extra={"removed": removed})
    for lead_change_id in _changes(event):
        try:
            more = change_leads.work(_engine(), lead_change_id, deadline)
        except Exception:
            if "lead_change_id" in event:
                raise  # Lambda retries it
            # One change that cannot go on must not stop the others and the imports.
            logger.exception("A change of leads failed", extra={"lead_change_id": str(lead_change_id)})
            continue
        if more:
            tell_function(context.function_name, {"bucket": event["bucket"], "lead_change_id": str(lead_change_id)})
    for bucket, lead_batch_id in _work(event):
        if import_files.work(_engine(), _bucket(bucket), lead_batch_id, deadline):
            tell_function(context.function_name, {"bucket": bucket, "lead_batch_id": str(lead_batch_id)})


def _changes(event: dict[str, Any]) -> list[UUID]:
    if "lead_change_id" in event:
        return [UUID(event["lead_change_id"])]
    if "bucket" not in event or "lead_batch_id" in event:
        return []
    with _engine().begin() as connection:
        return change_leads.unfinished(connection)


def _work(event: dict[str, Any]) -> Iterator[tuple[str, UUID]]:
    if "lead_batch_id" in event:
        yield event["bucket"], UUID(event["lead_batch_id"])
    elif "bucket" in event and "lead_change_id" not in event:
        with _engine().begin() as connection:
            left_behind = import_files.unfinished(connection)
        for lead_batch_id in left_behind:
            logger.warning(
                "Continues with a lead batch that was left behind", extra={"lead_batch_id": str(lead_batch_id)}
            )
            yield event["bucket"], lead_batch_id
    for record in event.get("Records", []):
        # https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
        key = unquote_plus(record["s3"]["object"]["key"])
        uploaded = import_files.lead_batch_of(key)
        if uploaded is None:
            logger.warning("No lead batch waits for this file", extra={"object_key": key})
        else:
            yield record["s3"]["bucket"]["name"], uploaded
