"""An SES that reports what becomes of emails to the function that records it: fixtures in place of the usual ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local.event_queue import EventQueue
from local.ses_simulator import SesSimulator

PATIENCE = 300.0
"""Seconds: the machine may be busy."""


@pytest.fixture
def ses_events() -> EventQueue:
    return EventQueue(retry_seconds=0.1)


@pytest.fixture
def ses(ses_events: EventQueue) -> Iterator[SesSimulator]:
    with SesSimulator(rate=None, daily_quota=-1, event_sink=ses_events.put) as simulator:
        yield simulator


def box(name: str) -> str:
    """A mailbox of the SES simulator, which does what its name says."""
    return f"{name}@simulator.amazonses.com"


def settle(ses: SesSimulator, ses_events: EventQueue) -> list[str]:
    """Wait until everything that SES has to say has been recorded; returns what could not be."""
    ses.flush_events(PATIENCE)
    ses_events.drain(PATIENCE)
    return [message.body for message in ses_events.dead_letters]
