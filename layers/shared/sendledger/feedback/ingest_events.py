"""Ingesting a batch of events: recording it, and after the commit checking completion and guardrails.

A batch is one transaction. If it cannot be written, it is halved until only the faulty events are left. The caller
learns which these are; all others are recorded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa
from aws_lambda_powertools import Logger

from sendledger.campaigns import completion, guardrails, lifecycle
from sendledger.core import database
from sendledger.core.errors import IllegalTransition
from sendledger.core.settings import GuardrailSettings
from sendledger.feedback.read_ses_events import SesEvent
from sendledger.feedback.record_events import RecordedEvents, record_events

logger = Logger(child=True)


@dataclass
class Ingested:
    """What became of a batch."""

    recorded: RecordedEvents = field(default_factory=RecordedEvents)
    failed_keys: set[str] = field(default_factory=set)
    """Events that cannot be recorded."""
    campaigns_completed: int = 0
    campaigns_paused: int = 0


def ingest_events(engine: sa.Engine, events: Sequence[SesEvent], settings: GuardrailSettings) -> Ingested:
    """Record the events. It may be repeated after a crash at any point.

    Raises:
        sa.exc.DBAPIError: the database cannot be reached or was too busy; the same batch may go through later.
    """
    ingested = Ingested()
    _record(engine, events, ingested)
    for campaign_id in ingested.recorded.touched:
        ingested.campaigns_completed += completion.mark_campaign_complete(engine, campaign_id)
    for campaign_id in ingested.recorded.doubtful:
        reason = guardrails.excessive_rates(engine, campaign_id, settings)
        if reason is not None:
            # It may have been paused or cancelled meanwhile.
            with contextlib.suppress(IllegalTransition):
                lifecycle.pause_campaign(engine, campaign_id, reason=reason)
                ingested.campaigns_paused += 1
    return ingested


def _record(engine: sa.Engine, events: Sequence[SesEvent], ingested: Ingested, *, are_of_sent: bool = True) -> None:
    try:
        with engine.begin() as connection:
            recorded = record_events(connection, events, are_of_sent=are_of_sent)
    except Exception as error:
        if isinstance(error, OSError) or (isinstance(error, sa.exc.DBAPIError) and database.is_transient(error)):
            raise
        if len(events) == 1:
            # Not the error's own text: it quotes values, and the recipient is one.
            logger.error(
                "An event cannot be recorded",
                extra={"ses_message_id": events[0].message_id, "error": type(error).__qualname__},
            )
            ingested.failed_keys.add(events[0].key)
            return
        middle = len(events) // 2
        _record(engine, events[:middle], ingested, are_of_sent=are_of_sent)
        _record(engine, events[middle:], ingested, are_of_sent=are_of_sent)
    else:
        ingested.recorded.add(recorded)
        if recorded.left:
            # Sender and SES were at work at the same time, or SES names an email of an earlier claim.
            _record(engine, recorded.left, ingested, are_of_sent=False)
