"""Asks another function of the stack to do something: in the background, or for an answer.

A function's name and an event go in.
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


class FunctionFailed(Exception):
    """The function that was asked has failed; the message is the type of its error."""


def ask_function(name: str, event: dict[str, Any]) -> Any:
    """What the function answers. It is asked once, and waited for.

    Raises:
        FunctionFailed
        botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError: Lambda cannot be reached, or refused.
    """
    answer = _patient_client().invoke(FunctionName=name, InvocationType="RequestResponse", Payload=json.dumps(event))
    result = json.loads(answer["Payload"].read())
    if "FunctionError" in answer:
        raise FunctionFailed(f"{name}: {result.get('errorType')}")
    return result


@functools.cache
def _patient_client() -> Any:
    import botocore.session  # for cold starts, as below
    from botocore.config import Config

    patient = Config(connect_timeout=5, read_timeout=60, retries={"total_max_attempts": 1})
    return botocore.session.get_session().create_client("lambda", config=patient)


@functools.cache
def _client() -> Any:
    import botocore.session  # as it doubles the time of every cold start of the API
    from botocore.config import Config

    impatient = Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1})
    return botocore.session.get_session().create_client("lambda", config=impatient)
