"""The SES events Lambda: it gets batches of SES events from EventBridge through SQS.

It answers with the messages that failed: those that are not SES events, and those that cannot be recorded. SQS delivers
them again and finally moves them to the dead-letter queue. Events of other senders are counted and dropped.
https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html#services-sqs-batchfailurereporting
"""

from __future__ import annotations

import functools
from collections import Counter
from typing import Any

import sqlalchemy as sa
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from sendledger.core import database
from sendledger.core.settings import DatabaseSettings, SesEventsSettings, at_cold_start
from sendledger.core.vocabulary import EventType
from sendledger.feedback.ingest_events import Ingested, ingest_events
from sendledger.feedback.read_ses_events import Ignored, SesEvent, UnreadableEvent, read_ses_event

logger = Logger()
metrics = Metrics(namespace="Sendledger")


@functools.cache
def engine() -> sa.Engine:
    return database.engine(DatabaseSettings.read())


@functools.cache
def settings() -> SesEventsSettings:
    return SesEventsSettings.read()


at_cold_start(engine, settings)


@logger.inject_lambda_context
@metrics.log_metrics
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Ingest one batch. If the database cannot be reached this raises, and SQS delivers the whole batch again."""
    found: list[tuple[str, SesEvent]] = []
    failures: list[str] = []
    dropped: Counter[str] = Counter()
    metrics.add_metric("EventsReceived", MetricUnit.Count, len(event["Records"]))
    for message in event["Records"]:
        try:
            read = read_ses_event(message["body"], settings().ses_account_id, settings().ses_configuration_set)
        except Exception as error:
            # An error in one event must not stop the others. The text of the error may quote the event.
            why = str(error) if isinstance(error, UnreadableEvent) else type(error).__qualname__
            logger.error("A message is no event of SES", extra={"sqs_message_id": message["messageId"], "why": why})
            failures.append(message["messageId"])
            continue
        if isinstance(read, Ignored):
            dropped[read.reason] += 1
        else:
            found.append((message["messageId"], read))
    ingested = ingest_events(engine(), [read for _, read in found], settings())
    failures += [message_id for message_id, read in found if read.key in ingested.failed_keys]
    _report(ingested, dropped, failures)
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failures]}


def _report(ingested: Ingested, dropped: Counter[str], failures: list[str]) -> None:
    recorded = ingested.recorded
    counts = recorded.counts.copy()
    dropped["unknown_email"] += counts.pop("unknown_email", 0)
    duplicates = counts.pop("duplicate", 0)
    for name, value in {
        "EventsRecorded": counts.total(),
        "EventsDuplicate": duplicates,
        "EventsDropped": dropped.total(),
        "EventsFailed": len(failures),
        "DoubleSend": recorded.double_sends,
        "Bounces": counts[EventType.BOUNCE],
        "Complaints": counts[EventType.COMPLAINT],
        "AddressesSuppressed": recorded.suppressed,
        "CampaignsPausedByGuardrail": ingested.campaigns_paused,
    }.items():
        # Zeros are not written: CloudWatch charges for each metric and hour with a value.
        if value:
            metrics.add_metric(name, MetricUnit.Count, value)
    logger.info(
        "Events ingested",
        extra={
            "recorded": dict(counts),
            "duplicates": duplicates,
            "dropped": dict(+dropped),
            "failed": len(failures),
            "settled": recorded.settled,
            "double_sends": recorded.double_sends,
            "addresses_suppressed": recorded.suppressed,
            "emails_skipped": recorded.emails_skipped,
            "campaigns_completed": ingested.campaigns_completed,
            "campaigns_paused": ingested.campaigns_paused,
        },
    )
