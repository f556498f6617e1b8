"""Asks another function of the stack, as an asynchronous Lambda invocation, to do something in the background."""

from __future__ import annotations

import functools
import json
from typing import Any

from aws_lambda_powertools.logging import Logger

logger = Logger(child=True)


def invoke_function(name: str | None, event: dict[str, Any]) -> None:
    """Without a name, or if it cannot be reached, the function finds the work itself with its next schedule."""
    if name is None:
        return
    # Imported here: boto3 would double the time of every cold start of the API, and few requests need it.
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        _client().invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps(event))
    except (BotoCoreError, ClientError) as error:
        logger.warning("A function could not be invoked", extra={"function": name, "error": type(error).__name__})


@functools.cache
def _client() -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client("lambda", config=Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 2}))
