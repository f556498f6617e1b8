"""What SES refuses because of the account is charged to no email, and refusals in a row cost few."""

from __future__ import annotations

import datetime as dt
import uuid

import pytest
import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from sendledger.campaigns import lifecycle
from sendledger.core.errors import Conflict
from sendledger.core.tables import suppressions
from sendledger.ledger import sender_state
from sendledger.preflight.diagnose import diagnose
from sendledger.sending.refusals import RefusalGate
from sendledger.sending.tick import Resources, send_due_emails
from sendledger.ses.answers import Answer
from testbed.campaigns import DAY, NO_DELAY, campaign_row, make_campaign, pass_time, rows_of, statuses
from testbed.invariants import assert_ledger_is_consistent, let_it_settle

SECONDS = 60.0


def started(engine: sa.Engine, connection: sa.Connection, leads: int) -> uuid.UUID:
    campaign_id = make_campaign(connection, leads, [NO_DELAY, DAY])
    lifecycle.start_campaign(engine, campaign_id)
    return campaign_id


# The account


@pytest.mark.parametrize("kind", ["account_paused", "account_sending_paused", "configuration_set_sending_paused"])
def test_account_that_may_not_send_fails_no_email(
    kind: str, engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = started(engine, connection, 40)
    ses.account.max_send_rate = 50
    ses.add_fault(kind, count=None)
    summary = send_due_emails(resources, SECONDS)
    assert (summary.sent, summary.failed) == (0, 0)
    assert statuses(engine, campaign_id) == {"pending": 80}
    with engine.connect() as opened:
        found = diagnose(opened, campaign_id, "test")
        assert found.cause == "sender_stopped"
        assert found.detail["stop_code"] == sender_state.read(opened).stop_code
    ses.faults.clear()
    ses.account.max_send_rate = None
    with engine.begin() as opened:
        sender_state.clear_stop(opened, "ann")
    let_it_settle(engine, resources)
    assert assert_ledger_is_consistent(engine, ses).emails_by_status == {"sent": 80}


def test_signature_that_has_expired_rests_ten_minutes(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = started(engine, connection, 5)
    ses.add_fault("signature_expired", count=None)
    assert "Signature expired" in str(send_due_emails(resources, SECONDS).stopped)
    ses.faults.clear()
    pass_time(engine, dt.timedelta(minutes=9))
    assert send_due_emails(resources, SECONDS).claimed == 0
    pass_time(engine, dt.timedelta(minutes=2))
    assert send_due_emails(resources, SECONDS).sent == 5
    assert campaign_row(engine, campaign_id)["emails_failed_count"] == 0


# Refusals in a row


@pytest.mark.parametrize("rate", [14, 50, 500])
def test_refusals_of_every_email_stop_at_the_limit_and_the_calls_in_flight(
    rate: int, engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = started(engine, connection, 300)
    ses.account.max_send_rate = rate
    ses.account.latency_ms = 50
    ses.add_fault("bad_request", count=None)
    summary = send_due_emails(resources, SECONDS)
    in_flight_at_first = 1 + rate * 0.05
    assert 5 <= summary.failed <= max(5, 3 * in_flight_at_first)
    campaign = campaign_row(engine, campaign_id)
    assert (campaign["status"], campaign["emails_failed_count"]) == ("paused", summary.failed)
    assert f"SES refused the last {summary.failed} emails in a row (bad_request)" in campaign["failure_reason"]


def test_other_campaign_is_sent_while_one_is_refused(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    refused = started(engine, connection, 50)
    other = started(engine, connection, 50)
    ses.account.latency_ms = 20
    ses.add_fault("bad_request", tags={"campaign_id": str(refused)}, count=None)
    assert send_due_emails(resources, SECONDS).sent == 50
    assert campaign_row(engine, refused)["status"] == "paused"
    assert statuses(engine, other) == {"sent": 50, "pending": 50}


def test_few_refused_emails_among_many_hold_nothing_up(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = started(engine, connection, 100)
    for number in range(0, 100, 10):
        ses.add_fault("bad_request", nth=number + 1)
    ses.account.latency_ms = 10
    summary = send_due_emails(resources, SECONDS)
    assert summary.sent + summary.failed == 100
    assert campaign_row(engine, campaign_id)["status"] == "running"


def test_gate_lets_through_what_is_left_to_the_limit() -> None:
    gate, campaign = RefusalGate(), uuid.uuid4()
    gate.set_limits({campaign: 3})
    assert all(gate.enter(campaign) for _ in range(10))
    gate.leave(campaign, Answer.FAIL_ROW)
    assert not gate.is_open(campaign)
    for _ in range(9):
        gate.leave(campaign, Answer.SENT)
    assert [gate.enter(campaign) for _ in range(4)] == [True] * 4
    gate.leave(campaign, Answer.FAIL_ROW)
    assert not gate.enter(campaign)
    gate.leave(campaign, Answer.SLOW_DOWN)
    gate.leave(campaign, Answer.SLOW_DOWN)
    assert [gate.enter(campaign), gate.enter(campaign)] == [True, False]


# Putting failed emails back


@pytest.fixture
def refused(engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator) -> uuid.UUID:
    """A campaign of 10 leads × 2 steps that paused itself, as SES refused all that was tried."""
    campaign_id = started(engine, connection, 10)
    ses.add_fault("bad_request", count=None)
    send_due_emails(resources, SECONDS)
    ses.faults.clear()
    send_due_emails(resources, SECONDS)
    assert campaign_row(engine, campaign_id)["status"] == "paused"
    return campaign_id


def test_refused_emails_and_their_later_steps_are_put_back_and_sent(
    refused: uuid.UUID, engine: sa.Engine, resources: Resources, ses: SesSimulator
) -> None:
    failed = campaign_row(engine, refused)["emails_failed_count"]
    assert failed >= 5
    put_back = lifecycle.retry_failed_emails(engine, refused, None, "ann")
    assert (put_back.emails, put_back.by_error_code, put_back.status) == (failed, {"bad_request": failed}, "paused")
    assert statuses(engine, refused) == {"cancelled": 20}
    assert campaign_row(engine, refused)["emails_failed_count"] == 0
    lifecycle.resume_campaign(engine, refused)
    let_it_settle(engine, resources)
    assert assert_ledger_is_consistent(engine, ses).emails_by_status == {"sent": 20}


def test_email_to_a_lead_that_was_suppressed_since_is_not_put_back(
    refused: uuid.UUID, engine: sa.Engine, connection: sa.Connection
) -> None:
    connection.execute(sa.insert(suppressions).values(value="example.com", reason="manual"))
    connection.commit()
    with pytest.raises(Conflict, match="No failed email"):
        lifecycle.retry_failed_emails(engine, refused, None, "ann")


def test_completed_campaign_runs_again_for_the_emails_put_back(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = make_campaign(connection, ["bad@example.com", "good@example.com"])
    lifecycle.start_campaign(engine, campaign_id)
    ses.add_fault("bad_request", address="bad@example.com")
    send_due_emails(resources, SECONDS)
    assert campaign_row(engine, campaign_id)["status"] == "completed"
    assert lifecycle.retry_failed_emails(engine, campaign_id, None, "ann").status == "running"
    let_it_settle(engine, resources)
    assert statuses(engine, campaign_id) == {"sent": 2}


def test_unknown_outcome_is_never_put_back_and_broken_content_only_by_name(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = make_campaign(connection, 3)
    lifecycle.start_campaign(engine, campaign_id)
    ids = [row["id"] for row in rows_of(engine, campaign_id)]
    for row_id, code in zip(ids, ["outcome_unknown", "undefined_variable", "conflict"], strict=True):
        connection.execute(
            sa.text(
                "UPDATE scheduled_emails SET status = 'failed', error_code = :code, failed_at = now() WHERE id = :id"
            ),
            {"code": code, "id": row_id},
        )
    connection.execute(sa.text("UPDATE campaigns SET emails_failed_count = 3"))
    connection.commit()
    assert lifecycle.retry_failed_emails(engine, campaign_id, None, "ann").by_error_code == {"conflict": 1}
    for codes, emails in ((["outcome_unknown"], 0), (["undefined_variable"], 1)):
        if emails:
            assert lifecycle.retry_failed_emails(engine, campaign_id, codes, "ann").emails == emails
        else:
            with pytest.raises(Conflict):
                lifecycle.retry_failed_emails(engine, campaign_id, codes, "ann")
    assert statuses(engine, campaign_id) == {"failed": 1, "pending": 2}
