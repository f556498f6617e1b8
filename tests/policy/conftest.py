"""A clock that can be moved, sending schedules, and senders."""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from sendledger.ledger import claim_emails, sweep
from sendledger.ledger.claim_emails import ClaimedEmail
from sendledger.policy import sender_addresses, sending_schedules
from sendledger.preflight import diagnose
from testbed.moved_clock import MovedClock

OFFICE_HOURS = {day: [["09:00", "12:00"], ["13:00", "17:00"]] for day in ("mon", "tue", "wed", "thu", "fri")}
MONDAY = dt.datetime(2026, 7, 6, 12, tzinfo=dt.UTC)
MakeSchedule = Callable[..., uuid.UUID]
MakeSender = Callable[..., uuid.UUID]


@pytest.fixture
def clock(engine: sa.Engine) -> MovedClock:
    """Before any other fixture that connects."""
    return MovedClock(engine)


@pytest.fixture
def make_schedule(clock: MovedClock, engine: sa.Engine) -> MakeSchedule:
    """Creates a schedule: office hours in the lead's time zone, or in Berlin, if nothing else is given."""

    def make(**values: Any) -> uuid.UUID:
        given = {"name": "Office", "time_zone": "Europe/Berlin", "zone_of": "lead", "hours": OFFICE_HOURS, **values}
        with engine.begin() as connection:
            created: uuid.UUID = sending_schedules.create(connection, {"holidays": [], **given})["id"]
        return created

    return make


@pytest.fixture
def make_sender(clock: MovedClock, engine: sa.Engine) -> MakeSender:
    """Creates a sender that does not spread its budget, if nothing else is given. It is Monday noon, UTC."""
    clock.move_to(MONDAY)

    def make(name: str, daily_cap: int | None = None, **given: object) -> uuid.UUID:
        with engine.begin() as connection:
            values = {"from_address": f"{name} <{name}@example.com>", "daily_cap": daily_cap, "spread": False, **given}
            created: uuid.UUID = sender_addresses.create(connection, values)["id"]
        return created

    return make


def cause(engine: sa.Engine, campaign_id: uuid.UUID) -> tuple[str | None, dt.datetime | None]:
    """Why the campaign sends nothing now, and when the next email goes out."""
    with engine.connect() as connection:
        found = diagnose.diagnose(connection, campaign_id, "test")
    return found.cause, found.next_send_at


def leave_unknown(engine: sa.Engine, count: int) -> list[ClaimedEmail]:
    """Claim and fence so many emails, and let their sender die: their outcome is unknown."""
    token = uuid.uuid4()
    with engine.begin() as connection:
        claimed = claim_emails.claim(connection, count, token)
    with engine.begin() as connection:
        claim_emails.fence(connection, claimed, token)
        connection.execute(
            sa.text("UPDATE scheduled_emails SET send_started_at = now() - interval '1 hour' WHERE status = 'sending'")
        )
    with engine.begin() as connection:
        assert sweep.sweep(connection).unknown == count
    return claimed


def claim_by_eight(engine: sa.Engine) -> None:
    """Claim everything that may go, by eight senders at once; two of them return what they get."""
    together = threading.Barrier(8)

    def work(number: int) -> None:
        together.wait()
        for _ in range(6):
            token = uuid.uuid4()
            with engine.begin() as connection:
                claimed = claim_emails.claim(connection, 10, token)
            if claimed and number % 4 == 0:
                with engine.begin() as connection:
                    claim_emails.release(connection, claimed, token)

    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(work, number) for number in range(8)]:
            done.result()
    while True:
        with engine.begin() as connection:
            if not claim_emails.claim(connection, 100, uuid.uuid4()):
                break
