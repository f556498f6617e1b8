"""Deliverers and writers of webhooks as processes of their own that kill themselves (SIGKILL) at a named point.

The points are those of `sender_process`. Both halves of a delivery are in one process, which is the worst case: at once
nobody knows any more what was leased, posted and reported.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from sendledger.campaigns import lifecycle
from sendledger.core import database
from sendledger.core.settings import DatabaseSettings
from sendledger.webhooks.deliver import SPARE_SECONDS, deliver_all
from sendledger.webhooks.exchange import exchange
from testbed.sender_process import install

SECONDS = 60.0


@dataclass(frozen=True)
class DeliveryRun:
    """One run of the delivering functions."""

    database_url: str
    failpoint: str | None = None


@dataclass(frozen=True)
class PauseRun:
    """A person pauses a campaign."""

    database_url: str
    campaign_id: uuid.UUID
    failpoint: str | None = None


def deliver(work: DeliveryRun, answer: Connection) -> dict[str, Any]:
    engine = database.engine(DatabaseSettings.read({"DATABASE_URL": work.database_url}), pool_size=4)
    if work.failpoint:
        install(engine, work.failpoint)
    counts = deliver_all(
        lambda asked: exchange(engine, asked), time.monotonic() + SPARE_SECONDS + SECONDS, any_target=True
    )
    engine.dispose()
    answer.send(counts)
    return counts


def pause(work: PauseRun, answer: Connection) -> dict[str, Any]:
    engine = database.engine(DatabaseSettings.read({"DATABASE_URL": work.database_url}))
    if work.failpoint:
        install(engine, work.failpoint)
    paused = {"status": str(lifecycle.pause_campaign(engine, work.campaign_id).status)}
    engine.dispose()
    answer.send(paused)
    return paused
