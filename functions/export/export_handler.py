"""The Lambda that writes exports to the bucket, in the background.

{"export_id": "…"}             write this export
{…scheduled event…}            invoke itself for those that were left behind (every ten minutes)
"""

from __future__ import annotations

import functools
import json
import time
from typing import Any
from uuid import UUID

import botocore.session
import sqlalchemy as sa
from aws_lambda_powertools.logging import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from sendledger import database, exports
from sendledger.file_bucket import FileBucket
from sendledger.settings import DatabaseSettings, ExportSettings
from sendledger.write_export import write_export

SPARE_SECONDS = 60.0
"""Kept free before the Lambda's own timeout: a page may take as long as a statement may."""

logger = Logger()


@functools.cache
def _engine() -> sa.Engine:
    return database.engine(DatabaseSettings.read())


@functools.cache
def _bucket() -> FileBucket:
    return FileBucket(ExportSettings.read().file_bucket)


@logger.inject_lambda_context
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> None:
    if "export_id" in event:
        deadline = time.monotonic() + context.get_remaining_time_in_millis() / 1000 - SPARE_SECONDS
        write_export(_engine(), _bucket(), UUID(event["export_id"]), deadline)
        return
    with _engine().begin() as connection:
        left_behind = exports.unfinished(connection)
    for export_id in left_behind:
        logger.warning("Writes an export that was left behind", extra={"export_id": str(export_id)})
        client = botocore.session.get_session().create_client("lambda")
        payload = json.dumps({"export_id": str(export_id)})
        client.invoke(FunctionName=context.function_name, InvocationType="Event", Payload=payload)
