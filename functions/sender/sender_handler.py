"""The sender Lambda: EventBridge invokes it every minute, a busy tick invokes further ones, an operator one email.

    {…scheduled event…}            one tick
    {"further": true}              help a tick that has more due than it can send alone
    {"scheduled_email_id": 42}     send this email now; the `request_id` of the API's request may go with it

Answers with the tick's summary.
"""

from __future__ import annotations

import functools
from dataclasses import asdict
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from sendledger.core import database
from sendledger.core.invoke_function import invoke_function
from sendledger.core.settings import DatabaseSettings, SenderSettings, at_cold_start
from sendledger.ledger import sender_ticks
from sendledger.ledger.vacuum import vacuum_behind
from sendledger.preflight import diagnose
from sendledger.sending import tick
from sendledger.sending.tick_summary import TickSummary
from sendledger.ses import client

SPARE_SECONDS = 2.0
"""Reserve before the Lambda's own timeout, which would kill the sender while it works."""

LONGEST_STATEMENT = 6.0
"""Seconds. Ordinary statements take milliseconds. If the database stops answering, enough time must be left to write
the results over a new connection."""

logger = Logger()
metrics = Metrics(namespace="Sendledger")


@functools.cache
def _resources(function_name: str) -> tick.Resources:
    tick.tune_process()
    database_settings = DatabaseSettings.read()
    return tick.Resources(
        engine=database.engine(database_settings, longest_statement=LONGEST_STATEMENT),
        bulk_engine=database.engine(database_settings, pool_size=1),
        ses_client=client.ses_client(),
        settings=SenderSettings.read(),
        start_sender=functools.partial(_start_sender, function_name),
    )


at_cold_start(DatabaseSettings.read, SenderSettings.read)


def _start_sender(function_name: str) -> None:
    invoke_function(function_name, {"further": True})


@logger.inject_lambda_context
@metrics.log_metrics
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    resources = _resources(context.function_name)
    seconds = context.get_remaining_time_in_millis() / 1000 - SPARE_SECONDS
    if "scheduled_email_id" in event:
        summary = tick.send_scheduled_email(resources, int(event["scheduled_email_id"]), seconds)
    else:
        further = bool(event.get("further"))
        summary = tick.send_due_emails(resources, seconds, further=further)
        with resources.engine.begin() as connection:
            sender_ticks.note(connection, summary.as_dict(), is_further=further)
        if not further:
            with resources.engine.begin() as connection:
                diagnose.note_tick(connection, summary.rate, summary.stopped)
                oldest = diagnose.oldest_due_seconds(connection)
                behind = vacuum_behind(connection)
            if behind is not None:
                logger.warning("Vacuum is behind", extra=asdict(behind))
                metrics.add_metric("VacuumBehind", MetricUnit.Count, 1)
            metrics.add_metric("Ticks", MetricUnit.Count, 1)
            metrics.add_metric("OldestDueSeconds", MetricUnit.Seconds, oldest)
    _count(summary)
    # Each event of SES has the claim token as a tag. So the log leads from an event to its tick, and to the request of
    # the API.
    logger.info("Tick done", extra={"tick": summary.as_dict(), "request_id": event.get("request_id")})
    return summary.as_dict()


def _count(summary: TickSummary) -> None:
    """Zeros are not written: CloudWatch charges for each metric and hour with a value."""
    metrics.add_metric("Claimed", MetricUnit.Count, summary.claimed)
    for name, value in {
        "Sent": summary.sent,
        "Failed": summary.failed,
        "Skipped": summary.skipped,
        "Unknown": summary.unknown,
        "CampaignsHeld": summary.campaigns_held,
    }.items():
        if value:
            metrics.add_metric(name, MetricUnit.Count, value)
