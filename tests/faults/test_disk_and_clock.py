"""A disk that fills up in the middle of sending, and clocks that jump by an hour: nothing twice, nothing lost."""

from __future__ import annotations

import datetime as dt
import threading
import time
import uuid

import pytest
import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from sendledger.campaigns import lifecycle
from sendledger.ledger import rate_limiter
from sendledger.sending import send_chunks
from sendledger.sending.tick import Resources, send_due_emails
from sendledger.sending.tick_summary import TickSummary
from testbed.campaigns import campaign_row, make_campaign, pass_time, statuses
from testbed.invariants import assert_ledger_is_consistent, let_it_settle, wait_for
from testbed.sender_process import install

LEADS = 120
HOUR = dt.timedelta(hours=1)


class Tick(threading.Thread):
    """A tick beside the test; `ended` is its summary, or the error that ended it."""

    def __init__(self, resources: Resources) -> None:
        super().__init__()
        self._resources = resources
        self.ended: TickSummary | Exception | None = None

    def run(self) -> None:
        try:
            self.ended = send_due_emails(self._resources, 60.0)
        except Exception as error:
            self.ended = error


@pytest.fixture
def campaign_id(engine: sa.Engine, connection: sa.Connection, ses: SesSimulator) -> uuid.UUID:
    ses.account.max_send_rate = 60
    campaign_id = make_campaign(connection, LEADS)
    lifecycle.start_campaign(engine, campaign_id)
    return campaign_id


# The disk


class Disk:
    """What the server says when its disk is full: SQLSTATE 53100, for each row that is written."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        with engine.begin() as connection:
            connection.execute(
                sa.text("""
                    CREATE TABLE disk (is_full boolean);
                    INSERT INTO disk VALUES (false);
                    CREATE SEQUENCE refusals; -- which no rollback takes back
                    CREATE FUNCTION write() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
                        IF (SELECT is_full FROM public.disk) THEN
                            PERFORM nextval('public.refusals');
                            RAISE 'could not extend file: No space left on device' USING ERRCODE = '53100';
                        END IF;
                        RETURN NEW;
                    END $$;
                    CREATE TRIGGER write BEFORE INSERT OR UPDATE ON emails FOR EACH ROW EXECUTE FUNCTION write();
                    CREATE TRIGGER write BEFORE UPDATE ON scheduled_emails FOR EACH ROW EXECUTE FUNCTION write();
                """)
            )

    def set_full(self, is_full: bool) -> None:
        with self._engine.begin() as connection:
            connection.execute(sa.text("UPDATE disk SET is_full = :is_full"), {"is_full": is_full})

    def has_refused(self) -> bool:
        with self._engine.connect() as connection:
            return bool(connection.scalar(sa.text("SELECT is_called FROM refusals")))


@pytest.fixture
def disk(engine: sa.Engine) -> Disk:
    return Disk(engine)


def test_disk_that_is_full_for_a_moment_loses_no_result(
    engine: sa.Engine, ses: SesSimulator, resources: Resources, campaign_id: uuid.UUID, disk: Disk
) -> None:
    uninstall = install(resources.engine, "answer.after:20", lambda: disk.set_full(True))
    tick = Tick(resources)
    tick.start()
    wait_for(disk.has_refused, "a write that is refused")
    disk.set_full(False)
    tick.join()
    uninstall()
    let_it_settle(engine, resources)
    found = assert_ledger_is_consistent(engine, ses)
    assert (found.emails_accepted, found.outcome_unknown) == (LEADS, 0)
    assert campaign_row(engine, campaign_id)["status"] == "completed"


def test_disk_that_stays_full_stops_the_sending_and_nothing_is_sent_twice(
    engine: sa.Engine,
    ses: SesSimulator,
    resources: Resources,
    campaign_id: uuid.UUID,
    disk: Disk,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(send_chunks, "MAX_CALL_SECONDS", 2.0)
    uninstall = install(resources.engine, "answer.after:5", lambda: disk.set_full(True))
    with pytest.raises(sa.exc.DBAPIError):
        send_due_emails(resources, 12.0)
    uninstall()
    accepted = len(ses.accepted())
    with pytest.raises(sa.exc.DBAPIError):
        send_due_emails(resources, 60.0)
    assert len(ses.accepted()) == accepted
    disk.set_full(False)
    let_it_settle(engine, resources)
    found = assert_ledger_is_consistent(engine, ses)
    # What was fenced and could not be recorded, a chunk at most: it is never sent again.
    assert 0 < found.outcome_unknown <= 60
    assert set(statuses(engine, campaign_id)) == {"sent", "failed"}


# The clock


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_clock_of_the_database_that_jumps_in_the_middle_of_a_tick(
    jump: dt.timedelta, engine: sa.Engine, ses: SesSimulator, resources: Resources, campaign_id: uuid.UUID
) -> None:
    tick = Tick(resources)
    tick.start()
    wait_for(lambda: len(ses.accepted()) >= 20, "20 emails")
    pass_time(engine, jump)  # all times in the database are an hour older, or an hour ahead
    tick.join()
    assert isinstance(tick.ended, TickSummary)
    pass_time(engine, -jump)
    let_it_settle(engine, resources)
    found = assert_ledger_is_consistent(engine, ses)
    assert found.emails_accepted == LEADS
    assert campaign_row(engine, campaign_id)["status"] == "completed"


def test_rate_that_was_reserved_before_the_clock_went_back_does_not_block(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        rate_limiter.reserve_rate(connection, 10, 10.0)
    pass_time(engine, -HOUR)
    with engine.begin() as connection:
        assert rate_limiter.reserve_rate(connection, 10, 10.0) == 0
        assert rate_limiter.reserve_rate(connection, 10, 10.0) > 0.5


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_clock_of_the_sender_that_jumps_changes_neither_pace_nor_result(
    jump: float,
    engine: sa.Engine,
    ses: SesSimulator,
    resources: Resources,
    campaign_id: uuid.UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wall = time.time
    tick = Tick(resources)
    tick.start()
    wait_for(lambda: len(ses.accepted()) >= 20, "20 emails")
    monkeypatch.setattr(time, "time", lambda: wall() + jump)
    tick.join()
    assert isinstance(tick.ended, TickSummary)
    assert (tick.ended.sent, ses.counts.rejected) == (LEADS, 0)
    assert assert_ledger_is_consistent(engine, ses).emails_by_status == {"sent": LEADS}
