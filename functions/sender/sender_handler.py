"""The sender Lambda: EventBridge invokes it every minute, a busy tick invokes further ones, an operator one email.

    {…scheduled event…}            one tick
    {"further": true}              help a tick that has more due than it can send alone
    {"scheduled_email_id": 42}     send this email now

Answers with the tick's summary.
"""

from __future__ import annotations

import functools
import json
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from sendledger import database, send_email, sender
from sendledger.settings import DatabaseSettings, SenderSettings

SPARE_SECONDS = 2.0
"""Kept free before the Lambda's own timeout, which would kill the sender in the middle of something."""

logger = Logger()


@functools.cache
def _resources(function_name: str) -> sender.Resources:
    return sender.Resources(
        engine=database.engine(DatabaseSettings.read()),
        ses_client=send_email.ses_client(),
        settings=SenderSettings.read(),
        start_sender=functools.partial(_start_sender, function_name),
    )


def _start_sender(function_name: str) -> None:
    import botocore.session  # with one sender, which is most installations, the Lambda API is never called

    client = botocore.session.get_session().create_client("lambda")
    client.invoke(FunctionName=function_name, InvocationType="Event", Payload=json.dumps({"further": True}))


@logger.inject_lambda_context
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    resources = _resources(context.function_name)
    seconds = context.get_remaining_time_in_millis() / 1000 - SPARE_SECONDS
    if "scheduled_email_id" in event:
        summary = sender.send_scheduled_email(resources, int(event["scheduled_email_id"]), seconds)
    else:
        summary = sender.send_due_emails(resources, seconds, further=bool(event.get("further")))
    logger.info("Tick done", extra={"tick": summary.as_dict()})
    return summary.as_dict()
