"""Waiting for work that the API does in the background: how long, and what it is to be done."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TypeVar

from sendledger_client.errors import StillWorking, WorkFailed
from sendledger_client.generated.models import Export, ExportStatus, LeadBatchStatus, LeadBatchWithRejects

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 5.0
Work = TypeVar("Work", Export, LeadBatchWithRejects)


def pauses(timeout: float) -> Iterator[float]:
    """Longer and longer pauses, in seconds, until the time is over."""
    until, pause = time.monotonic() + timeout, FIRST_PAUSE
    while time.monotonic() < until:
        yield pause
        pause = min(pause * 1.5, LONGEST_PAUSE)


def is_done(work: Export | LeadBatchWithRejects) -> bool:
    """Whether it has come to a good end.

    Raises:
        WorkFailed
    """
    if work.status in (ExportStatus.FAILED, LeadBatchStatus.FAILED):
        raise WorkFailed(work.failure_reason or "The work failed, and no reason is known.")
    return work.status in (ExportStatus.COMPLETED, LeadBatchStatus.COMPLETED)


def done_at_last(work: Work, timeout: float) -> Work:
    """The work, if it was done by the last moment.

    Raises:
        StillWorking
        WorkFailed
    """
    if not is_done(work):
        raise StillWorking(f"It is not done after {timeout:g} s; it goes on.")
    return work
