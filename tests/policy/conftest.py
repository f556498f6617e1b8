"""A clock that can be moved, and sending schedules."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from sendledger.policy import sending_schedules
from testbed.moved_clock import MovedClock

OFFICE_HOURS = {day: [["09:00", "12:00"], ["13:00", "17:00"]] for day in ("mon", "tue", "wed", "thu", "fri")}
MakeSchedule = Callable[..., uuid.UUID]


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
