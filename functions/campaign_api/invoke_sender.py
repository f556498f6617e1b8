"""Tells the sender, as an asynchronous Lambda invocation, to send one scheduled email now."""

from __future__ import annotations

import functools
import json
from typing import Any

from aws_lambda_powertools.logging import Logger

from sendledger.settings import ApiSettings

logger = Logger(child=True)


def invoke_sender(settings: ApiSettings, scheduled_email_id: int) -> None:
    """Without a function's name, or if it cannot be reached, the email goes out with the next tick."""
    if settings.sender_function_name is None:
        return
    # Imported here: boto3 would double the time of every cold start of the API, and few requests need it.
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        _client().invoke(
            FunctionName=settings.sender_function_name,
            InvocationType="Event",
            Payload=json.dumps({"scheduled_email_id": scheduled_email_id}),
        )
    except (BotoCoreError, ClientError) as error:
        logger.warning(
            "The sender was not told to send now",
            extra={"scheduled_email_id": scheduled_email_id, "error": type(error).__name__},
        )


@functools.cache
def _client() -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client("lambda", config=Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 2}))
