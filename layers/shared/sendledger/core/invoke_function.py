"""Asks another function of the stack, as an asynchronous Lambda invocation, to do something in the background.

A function's name and an event go in. Nobody waits for what the function does.
"""

from __future__ import annotations

import functools
import json
from typing import Any

from aws_lambda_powertools.logging import Logger

logger = Logger(child=True)


def invoke_function(name: str, event: dict[str, Any]) -> None:
    """Invoke it once, with short timeouts: in a network without access to the Lambda API, callers must not wait for
    minutes.

    Raises:
        botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError: Lambda cannot be reached, or refused.
    """
    _client().invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps(event))


def tell_function(name: str | None, event: dict[str, Any]) -> None:
    """As above. Without a name, or if it cannot be reached, the function's own schedule finds the work."""
    if name is None:
        return
    # For cold starts: botocore would double their time, and few requests need it.
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        invoke_function(name, event)
    except (BotoCoreError, ClientError) as error:
        logger.warning("A function could not be invoked", extra={"function": name, "error": type(error).__name__})


@functools.cache
def _client() -> Any:
    import botocore.session  # for cold starts, as above
    from botocore.config import Config

    impatient = Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1})
    return botocore.session.get_session().create_client("lambda", config=impatient)
