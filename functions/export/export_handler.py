"""The Lambda that writes exports to the bucket, in the background: an event in, files out.

    {"export_id": "…"}             write this export
    {…scheduled event…}            write exports that were left behind or not announced (every five minutes)

An interrupted export starts from the beginning.
"""

from __future__ import annotations

import functools
import time
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from aws_lambda_powertools.logging import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from sendledger.core import database
from sendledger.core.reader import Reader
from sendledger.core.settings import DatabaseSettings, ExportSettings, at_cold_start
from sendledger.exports import exports
from sendledger.exports.write_export import write_export
from sendledger.files.file_bucket import FileBucket

SPARE_SECONDS = 60.0
"""Reserve before the Lambda's own timeout: a page may take as long as a statement may."""

MUCH_TIME = 600.0
"""An export that would have less time is left for the next schedule."""

logger = Logger()


@functools.cache
def _engine() -> sa.Engine:
    return database.engine(DatabaseSettings.read())


@functools.cache
def _reader() -> Reader | None:
    return Reader.of(DatabaseSettings.read())


@functools.cache
def _bucket() -> FileBucket:
    return FileBucket(ExportSettings.read().file_bucket)


at_cold_start(_engine, _reader, ExportSettings.read)


@logger.inject_lambda_context
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> None:
    deadline = time.monotonic() + context.get_remaining_time_in_millis() / 1000 - SPARE_SECONDS
    if "export_id" in event:
        write_export(_engine(), _bucket(), UUID(event["export_id"]), deadline, _reader())
        return
    while time.monotonic() < deadline - MUCH_TIME:
        with _engine().begin() as connection:
            left_behind = exports.unfinished(connection)
        if not left_behind:
            return
        logger.warning("Writes an export that was left behind", extra={"export_id": str(left_behind[0])})
        write_export(_engine(), _bucket(), left_behind[0], deadline, _reader())
