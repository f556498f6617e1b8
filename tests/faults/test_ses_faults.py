"""Whatever SES answers, or does not answer: one request per attempt, nothing twice, nothing lost, the right end."""

from __future__ import annotations

import datetime as dt
import threading
import time
import uuid

import pytest
import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from sendledger.campaigns import lifecycle
from sendledger.ledger import sender_state
from sendledger.ledger.record_results import MAX_ATTEMPTS, RETRY_BASE_SECONDS
from sendledger.ledger.settle_unknown import Acceptance, settle_as_sent
from sendledger.sending import send_chunks, tick
from sendledger.sending.tick import Resources, send_due_emails
from sendledger.ses import connection as ses_connection
from sendledger.ses.connection import SesConnection
from testbed.campaigns import DAY, NO_DELAY, campaign_row, make_campaign, pass_time, rows_of, statuses
from testbed.invariants import assert_ledger_is_consistent, let_it_settle

LEADS = 10
SECONDS = 60.0
A_MINUTE = dt.timedelta(minutes=1)
AFTER_THE_REST = dt.timedelta(minutes=11)
"""How long sending rests after the daily quota is used up, and a little more."""


@pytest.fixture
def campaign_id(engine: sa.Engine, connection: sa.Connection) -> uuid.UUID:
    campaign_id = make_campaign(connection, LEADS)
    lifecycle.start_campaign(engine, campaign_id)
    return campaign_id


@pytest.fixture
def short_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    # On a busy machine an answer may take a second.
    monkeypatch.setattr(ses_connection, "READ_TIMEOUT", 4.0)


@pytest.mark.usefixtures("short_timeout")
@pytest.mark.parametrize(
    "kind", ["error_500", "error_500_after_accept", "stall", "stall_after_accept", "reset", "reset_after_accept"]
)
def test_ambiguous_answer_leaves_the_outcome_unknown_and_is_never_repeated(
    kind: str, engine: sa.Engine, ses: SesSimulator, resources: Resources, campaign_id: uuid.UUID
) -> None:
    ses.add_fault(kind, count=4)
    summary = send_due_emails(resources, SECONDS)
    assert (summary.sent, summary.unknown) == (LEADS - 4, 4)
    let_it_settle(engine, resources)
    found = assert_ledger_is_consistent(engine, ses)
    assert found.outcome_unknown == 4
    # Neither botocore nor the sender has repeated one.
    assert ses.counts.send_requests == LEADS
    assert campaign_row(engine, campaign_id)["status"] == "completed"


@pytest.mark.usefixtures("short_timeout")
@pytest.mark.parametrize("kind", ["error_500_after_accept", "stall_after_accept", "reset_after_accept"])
def test_event_settles_an_unknown_outcome(
    kind: str, engine: sa.Engine, ses: SesSimulator, resources: Resources, campaign_id: uuid.UUID
) -> None:
    ses.add_fault(kind, count=LEADS)
    send_due_emails(resources, SECONDS)
    assert statuses(engine, campaign_id) == {"failed": LEADS}
    with engine.begin() as connection:
        accepted = {int(email.tags["scheduled_email_id"]): Acceptance(email.message_id) for email in ses.accepted()}
        assert settle_as_sent(connection, accepted) == LEADS
    with engine.begin() as connection:
        assert settle_as_sent(connection, accepted) == 0
    found = assert_ledger_is_consistent(engine, ses)
    assert found.emails_by_status == {"sent": LEADS}


def test_throttling_charges_no_attempt_and_everything_is_sent(
    engine: sa.Engine, ses: SesSimulator, resources: Resources, campaign_id: uuid.UUID
) -> None:
    ses.add_fault("reject_429", count=7)
    summary = send_due_emails(resources, SECONDS)
    assert summary.sent == LEADS
    assert {row["retry_count"] for row in rows_of(engine, campaign_id)} == {0}
    assert assert_ledger_is_consistent(engine, ses).emails_by_status == {"sent": LEADS}


def test_throttled_request_for_the_quota_is_repeated(
    ses: SesSimulator, resources: Resources, campaign_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tick, "QUOTA_WAIT_SECONDS", 0.0)
    ses.add_fault("reject_429", operation="GetAccount", count=tick.QUOTA_TRIES - 1)
    assert send_due_emails(resources, SECONDS).sent == LEADS
    ses.add_fault("reject_429", operation="GetAccount", count=None)
    assert "quota_unknown" in str(send_due_emails(resources, SECONDS).stopped)


@pytest.mark.parametrize("kind", ["daily_quota", "limit_exceeded"])
def test_used_up_quota_fails_nothing_and_sending_goes_on_after_a_rest(
    kind: str, engine: sa.Engine, ses: SesSimulator, resources: Resources, campaign_id: uuid.UUID
) -> None:
    ses.add_fault(kind, count=None)
    assert send_due_emails(resources, SECONDS).stopped
    ses.faults.clear()
    requests = ses.counts.send_requests
    summary = send_due_emails(resources, SECONDS)
    assert (summary.claimed, summary.stopped is None) == (0, False)
    assert ses.counts.send_requests == requests
    assert statuses(engine, campaign_id) == {"pending": LEADS}
    pass_time(engine, AFTER_THE_REST)
    assert send_due_emails(resources, SECONDS).sent == LEADS
    assert_ledger_is_consistent(engine, ses)


def test_sending_stops_at_the_rest_of_the_quota(
    engine: sa.Engine, ses: SesSimulator, resources: Resources, campaign_id: uuid.UUID
) -> None:
    ses.account.max_24_hour_send = 4
    send_due_emails(resources, SECONDS)
    assert statuses(engine, campaign_id) == {"sent": 4, "pending": LEADS - 4}
    assert ses.counts.rejected == 0
    assert (send_due_emails(resources, SECONDS).stopped or "").startswith("daily_quota")
    ses.account.max_24_hour_send = 100
    assert send_due_emails(resources, SECONDS).sent == LEADS - 4


@pytest.mark.parametrize("kind", ["account_suspended", "sending_paused"])
def test_refused_account_stops_everything_until_an_operator_acts(
    kind: str, engine: sa.Engine, ses: SesSimulator, resources: Resources, campaign_id: uuid.UUID
) -> None:
    ses.add_fault(kind, count=None)
    assert send_due_emails(resources, SECONDS).stopped
    ses.faults.clear()
    pass_time(engine, AFTER_THE_REST)
    assert send_due_emails(resources, SECONDS).claimed == 0
    assert statuses(engine, campaign_id) == {"pending": LEADS}
    with engine.begin() as connection:
        sender_state.clear_stop(connection, "ann")
    assert send_due_emails(resources, SECONDS).sent == LEADS
    assert_ledger_is_consistent(engine, ses)


@pytest.mark.parametrize(("switch", "value"), [("sending_enabled", False), ("enforcement_status", "SHUTDOWN")])
def test_paused_account_is_reported_and_leaves_the_rows_pending(
    switch: str, value: object, engine: sa.Engine, ses: SesSimulator, resources: Resources, campaign_id: uuid.UUID
) -> None:
    setattr(ses.account, switch, value)
    summary = send_due_emails(resources, SECONDS)
    assert (summary.stopped or "").startswith("account: ")
    assert ses.counts.send_requests == 0
    assert statuses(engine, campaign_id) == {"pending": LEADS}


@pytest.mark.parametrize("kind", ["message_rejected", "mail_from_not_verified", "config_set_not_found"])
def test_campaign_that_cannot_be_sent_is_paused_and_says_why(
    kind: str, engine: sa.Engine, connection: sa.Connection, ses: SesSimulator, resources: Resources
) -> None:
    refused = make_campaign(connection, ["no@example.com"], from_address="a@example.com")
    other = make_campaign(connection, LEADS)
    for campaign_id in (refused, other):
        lifecycle.start_campaign(engine, campaign_id)
    ses.add_fault(kind, address="no@example.com", count=None)
    summary = send_due_emails(resources, SECONDS)
    assert (summary.sent, summary.campaigns_paused) == (LEADS, 1)
    campaign = campaign_row(engine, refused)
    assert campaign["status"] == "paused"
    assert campaign["failure_reason"].startswith("SES refused this campaign's email")
    let_it_settle(engine, resources)  # the next tick brings its rows in line
    assert statuses(engine, refused) == {"cancelled": 1}
    ses.faults.clear()
    lifecycle.resume_campaign(engine, refused)
    let_it_settle(engine, resources)
    assert assert_ledger_is_consistent(engine, ses).emails_by_status == {"sent": LEADS + 1}


def test_refused_email_fails_alone_and_ends_its_leads_sequence(
    engine: sa.Engine, connection: sa.Connection, ses: SesSimulator, resources: Resources
) -> None:
    campaign_id = make_campaign(connection, ["bad@example.com", "good@example.com"], [NO_DELAY, DAY])
    lifecycle.start_campaign(engine, campaign_id)
    ses.add_fault("bad_request", address="bad@example.com", count=None)
    let_it_settle(engine, resources)
    assert statuses(engine, campaign_id) == {"failed": 1, "skipped": 1, "sent": 2}
    (skipped,) = (row for row in rows_of(engine, campaign_id) if row["status"] == "skipped")
    assert skipped["reason"] == "previous_step_failed"
    assert_ledger_is_consistent(engine, ses)


def test_unknown_outcome_does_not_end_the_sequence(
    engine: sa.Engine, connection: sa.Connection, ses: SesSimulator, resources: Resources
) -> None:
    campaign_id = make_campaign(connection, 1, [NO_DELAY, DAY])
    lifecycle.start_campaign(engine, campaign_id)
    ses.add_fault("error_500_after_accept")
    let_it_settle(engine, resources)
    assert statuses(engine, campaign_id) == {"failed": 1, "sent": 1}
    assert_ledger_is_consistent(engine, ses)


def test_refusal_that_may_pass_is_tried_again_later_three_times_at_most(
    engine: sa.Engine, ses: SesSimulator, resources: Resources, campaign_id: uuid.UUID
) -> None:
    ses.add_fault("conflict", count=None)
    for attempt in range(1, MAX_ATTEMPTS):
        assert send_due_emails(resources, SECONDS).retried == LEADS
        assert {row["retry_count"] for row in rows_of(engine, campaign_id)} == {attempt}
        waits = waits_of(engine, campaign_id)
        # Twice as long each time.
        assert min(waits) >= attempt * RETRY_BASE_SECONDS
        assert max(waits) <= 2 * attempt * RETRY_BASE_SECONDS
        assert send_due_emails(resources, SECONDS).claimed == 0, "it waits before it tries again"
        pass_time(engine, 5 * A_MINUTE * attempt)
    send_due_emails(resources, SECONDS)
    assert {(row["status"], row["error_code"]) for row in rows_of(engine, campaign_id)} == {("failed", "conflict")}
    assert assert_ledger_is_consistent(engine, ses).emails_accepted == 0
    assert ses.counts.send_requests == MAX_ATTEMPTS * LEADS


def waits_of(engine: sa.Engine, campaign_id: uuid.UUID) -> list[float]:
    """How many seconds after its failure each of the campaign's emails is due."""
    return [(row["scheduled_for"] - row["updated_at"]).total_seconds() for row in rows_of(engine, campaign_id)]


def test_ses_that_cannot_be_reached_fails_no_email_however_long_that_lasts(
    engine: sa.Engine, ses: SesSimulator, resources: Resources, campaign_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: object, request: object) -> None:
        raise ConnectionRefusedError

    with monkeypatch.context() as context:
        context.setattr(SesConnection, "begin", refuse)
        for _ in range(2 * MAX_ATTEMPTS):
            assert send_due_emails(resources, SECONDS).retried == LEADS
            assert {row["error_code"] for row in rows_of(engine, campaign_id)} == {"cannot_connect"}
            assert send_due_emails(resources, SECONDS).claimed == 0, "it waits before it tries again"
            pass_time(engine, 2 * A_MINUTE)
    assert ses.counts.send_requests == 0
    let_it_settle(engine, resources)
    assert statuses(engine, campaign_id) == {"sent": LEADS}
    assert_ledger_is_consistent(engine, ses)


def test_retries_of_emails_that_failed_together_are_spread(
    engine: sa.Engine, ses: SesSimulator, resources: Resources, campaign_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: object, request: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(SesConnection, "begin", refuse)
    send_due_emails(resources, SECONDS)
    times = sorted(row["scheduled_for"] for row in rows_of(engine, campaign_id))
    assert times[-1] - times[0] > dt.timedelta(seconds=5)


def test_tick_ends_within_its_time_though_every_call_stalls(
    engine: sa.Engine, ses: SesSimulator, resources: Resources, campaign_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It has time for a few calls, and much for all that comes after them: the machine may be busy.
    monkeypatch.setattr(ses_connection, "READ_TIMEOUT", 0.5)
    monkeypatch.setattr(send_chunks, "MAX_CALL_SECONDS", 0.6)
    monkeypatch.setattr(send_chunks, "FINISH_SECONDS", 25.0)
    ses.account.max_send_rate = 2
    ses.add_fault("stall", count=None)
    threads = threading.active_count()
    began = time.monotonic()
    summary = send_due_emails(resources, 29.0)
    assert time.monotonic() - began < 29.0
    assert threading.active_count() == threads
    assert 0 < summary.unknown < LEADS
    # What was claimed and not fenced has been given back.
    assert statuses(engine, campaign_id) == {"failed": summary.unknown, "pending": LEADS - summary.unknown}
