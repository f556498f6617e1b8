"""A sender that is killed at any point sends nothing twice and loses nothing."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from sendledger.campaigns import lifecycle
from sendledger.sending.tick import Resources, send_due_emails
from testbed.campaigns import DAY, NO_DELAY, campaign_row, make_campaign, pass_time, rows_of, statuses
from testbed.invariants import (
    LONGER_THAN_ANY_GRACE,
    Consistency,
    assert_ledger_is_consistent,
    let_it_settle,
    wait_for,
)
from tests.faults.conftest import StartSender

KillAt = Callable[[str], Consistency]

LEADS = 12

UNSENT = [
    "claim.before_commit",
    "claim.after_commit",
    "fence.before_commit",
    "reserve.after_commit",
    "sweep.before_commit",
]
FENCED = ["fence.after_commit", "send.before", "send.before:5", "send.after"]
ACCEPTED = ["answer.after", "answer.after:5", "record.before_commit"]
RECORDED = ["complete.before", "complete.after"]


@pytest.fixture
def campaign_id(engine: sa.Engine, connection: sa.Connection) -> uuid.UUID:
    campaign_id = make_campaign(connection, LEADS, [NO_DELAY, DAY])
    lifecycle.start_campaign(engine, campaign_id)
    return campaign_id


@pytest.fixture
def killed_at(
    engine: sa.Engine, ses: SesSimulator, resources: Resources, start_sender: StartSender, campaign_id: uuid.UUID
) -> KillAt:
    def kill_and_settle(failpoint: str) -> Consistency:
        assert start_sender(failpoint=failpoint).wait() is None, "it did not get to the failpoint"
        let_it_settle(engine, resources)
        assert campaign_row(engine, campaign_id)["status"] == "completed"
        return assert_ledger_is_consistent(engine, ses)

    return kill_and_settle


@pytest.mark.parametrize("failpoint", UNSENT)
def test_killed_before_anything_could_be_sent_everything_is_sent_later(failpoint: str, killed_at: KillAt) -> None:
    found = killed_at(failpoint)
    assert (found.emails_accepted, found.outcome_unknown) == (2 * LEADS, 0)


@pytest.mark.parametrize("failpoint", FENCED)
def test_fenced_emails_of_a_killed_sender_are_unknown_and_never_sent_again(failpoint: str, killed_at: KillAt) -> None:
    found = killed_at(failpoint)
    # Some of them may have reached SES over another connection before the process died.
    assert found.outcome_unknown == LEADS
    assert LEADS <= found.emails_accepted <= 2 * LEADS


@pytest.mark.parametrize("failpoint", ACCEPTED)
def test_killed_between_acceptance_and_record_the_outcome_is_unknown(failpoint: str, killed_at: KillAt) -> None:
    found = killed_at(failpoint)
    assert 0 < found.outcome_unknown <= LEADS
    assert LEADS < found.emails_accepted <= 2 * LEADS


@pytest.mark.parametrize("failpoint", RECORDED)
def test_killed_after_the_last_record_everything_is_known(failpoint: str, killed_at: KillAt) -> None:
    found = killed_at(failpoint)
    assert (found.emails_accepted, found.outcome_unknown) == (2 * LEADS, 0)


def test_killed_after_a_record_what_it_wrote_is_known(
    engine: sa.Engine, ses: SesSimulator, resources: Resources, start_sender: StartSender, campaign_id: uuid.UUID
) -> None:
    assert start_sender(failpoint="record.after_commit").wait() is None, "it did not get to the failpoint"
    # A slow sender records what it has before all have been sent.
    rows = rows_of(engine, campaign_id)
    in_doubt = sum(row["status"] == "sending" and row["send_started_at"] is not None for row in rows)
    assert any(row["status"] == "sent" for row in rows)
    let_it_settle(engine, resources)
    found = assert_ledger_is_consistent(engine, ses)
    assert found.outcome_unknown == in_doubt
    assert statuses(engine, campaign_id)["sent"] == 2 * LEADS - in_doubt


@pytest.mark.parametrize("kind", ["stall", "stall_after_accept"])
def test_killed_during_the_call_the_outcome_is_unknown(
    kind: str,
    engine: sa.Engine,
    ses: SesSimulator,
    resources: Resources,
    start_sender: StartSender,
    campaign_id: uuid.UUID,
) -> None:
    ses.add_fault(kind, count=3)
    sender = start_sender()
    wait_for(lambda: ses.counts.send_requests == LEADS, "the calls")
    sender.kill()
    assert sender.wait() is None
    let_it_settle(engine, resources)
    found = assert_ledger_is_consistent(engine, ses)
    assert found.outcome_unknown >= 3
    assert campaign_row(engine, campaign_id)["status"] == "completed"


def test_lambda_that_times_out_with_live_threads_sends_nothing_twice(
    engine: sa.Engine, ses: SesSimulator, resources: Resources, start_sender: StartSender, connection: sa.Connection
) -> None:
    campaign_id = make_campaign(connection, 200)
    lifecycle.start_campaign(engine, campaign_id)
    # At this rate it has sent for a second when it is killed, and would for 19 more.
    ses.account.max_send_rate = 10
    sender = start_sender()
    wait_for(lambda: len(ses.accepted()) >= 10, "10 emails")
    sender.kill()
    assert sender.wait() is None
    ses.account.max_send_rate = None
    let_it_settle(engine, resources)
    found = assert_ledger_is_consistent(engine, ses)
    assert campaign_row(engine, campaign_id)["status"] == "completed"
    assert 10 <= found.emails_accepted <= 200


def test_killed_sender_leaves_less_than_the_emails_of_a_second_unknown(
    engine: sa.Engine, ses: SesSimulator, resources: Resources, start_sender: StartSender, connection: sa.Connection
) -> None:
    """Time is reserved for a chunk of a second. It is fenced in parts, and results are recorded several times in it."""
    rate = 400
    ses.account.max_send_rate = rate
    lifecycle.start_campaign(engine, make_campaign(connection, 4 * rate))
    fenced = sa.text("SELECT count(*) FROM scheduled_emails WHERE status = 'sending' AND send_started_at IS NOT NULL")
    # The email that is accepted last is not recorded. Soon after it the next chunk would be fenced as a whole.
    for number in (250, 310, 370):
        assert start_sender(failpoint=f"answer.after:{number}").wait() is None
        with engine.connect() as counting:
            assert 0 < counting.execute(fenced).scalar_one() < rate
        pass_time(engine, LONGER_THAN_ANY_GRACE)
        send_due_emails(resources, 0.0)
    ses.account.max_send_rate = None
    let_it_settle(engine, resources)
    assert_ledger_is_consistent(engine, ses)
