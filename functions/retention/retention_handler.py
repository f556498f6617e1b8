"""The Lambda that removes what is older than the parameters KeepContentDays, KeepEventsDays and KeepLedgersDays say.

    {…scheduled event…}            remove what is too old (every hour)

An interrupted run leaves nothing half done; the next one continues.
"""

from __future__ import annotations

import functools
import time
from typing import Any

import sqlalchemy as sa
from aws_lambda_powertools.logging import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from sendledger.core import database
from sendledger.core.settings import DatabaseSettings, RetentionSettings, at_cold_start
from sendledger.files.file_bucket import FileBucket
from sendledger.retention.run import remove_old

SPARE_SECONDS = 90.0
"""Reserve before the Lambda's own timeout: the last chunk may wait for locks, up to the statement timeout."""

logger = Logger()


@functools.cache
def _engine() -> sa.Engine:
    return database.engine(DatabaseSettings.read())


@functools.cache
def _bucket(name: str) -> FileBucket:
    return FileBucket(name)


at_cold_start(_engine, RetentionSettings.read)


@logger.inject_lambda_context
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    deadline = time.monotonic() + context.get_remaining_time_in_millis() / 1000 - SPARE_SECONDS
    settings = RetentionSettings.read()
    bucket = _bucket(settings.file_bucket) if settings.archive_removed and settings.file_bucket else None
    removed = dict(remove_old(_engine(), settings, deadline, bucket))
    logger.info("Retention done", extra={"removed": removed})
    return removed
