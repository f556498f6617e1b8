"""An email that kills its sender, or stalls it, is isolated, delays no other campaign and in the end pauses its own."""

from __future__ import annotations

import datetime as dt
import time
import uuid
from typing import Any

import pytest
import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from sendledger.campaigns import lifecycle
from sendledger.core.tables import leads
from sendledger.ledger import claim_emails, sweep
from sendledger.ledger.senders import LivingSender
from sendledger.preflight.diagnose import diagnose
from sendledger.sending.claimed_emails import ClaimedEmails
from sendledger.sending.compose_email import Composer
from sendledger.sending.tick import Resources, send_due_emails
from sendledger.sending.tick_summary import TickSummary
from testbed.campaigns import DAY, NO_DELAY, campaign_row, make_campaign, pass_time, rows_of, statuses
from testbed.databases import wait_until
from testbed.invariants import assert_ledger_is_consistent, let_it_settle, wait_for
from tests.faults.conftest import StartSender

A_MINUTE = dt.timedelta(minutes=1)
PEOPLE = 200


def started(
    engine: sa.Engine, connection: sa.Connection, count: int, company: str = "Good Ltd", **values: Any
) -> uuid.UUID:
    campaign_id = make_campaign(connection, count, **values)
    batch_ids = campaign_row(engine, campaign_id)["batch_ids"]
    connection.execute(sa.update(leads).where(leads.c.batch_id.in_(batch_ids)).values(company_name=company))
    connection.commit()
    lifecycle.start_campaign(engine, campaign_id)
    return campaign_id


def tick(engine: sa.Engine, start_sender: StartSender, kind: str) -> dict[str, Any] | None:
    """One tick in a process of its own, and the minute until the next. None: it died."""
    summary = start_sender(poison=kind).wait()
    no_dead_sender_is_connected(engine)
    pass_time(engine, A_MINUTE)
    return summary


def no_dead_sender_is_connected(engine: sa.Engine) -> None:
    """The server takes a moment to see that a connection has ended."""
    held = "SELECT FROM pg_locks JOIN pg_database d ON d.oid = database WHERE locktype = 'advisory'"
    wait_until(engine, f"NOT EXISTS ({held} AND datname = current_database())")


def dies(sender: LivingSender) -> None:
    """Its process is killed."""
    assert sender._connection is not None
    sender._drop(sender._connection)


@pytest.mark.parametrize("rate", [None, 50])
def test_good_emails_are_sent_within_two_ticks_whatever_kills_the_sender(
    rate: int | None, engine: sa.Engine, connection: sa.Connection, ses: SesSimulator, start_sender: StartSender
) -> None:
    poisonous = started(engine, connection, PEOPLE, "Poison Ltd")
    good = started(engine, connection, PEOPLE)
    ses.account.max_send_rate = rate
    tick(engine, start_sender, "kill")
    tick(engine, start_sender, "kill")
    assert statuses(engine, good) == {"sent": PEOPLE}
    assert campaign_row(engine, good)["sender_deaths"] == 0
    assert set(statuses(engine, poisonous)) <= {"pending", "sending", "failed"}


def test_campaign_pauses_itself_at_the_third_death_and_says_why(
    engine: sa.Engine, connection: sa.Connection, ses: SesSimulator, start_sender: StartSender
) -> None:
    poisonous = started(engine, connection, 20, "Poison Ltd")
    for _ in range(sweep.MAX_SENDER_DEATHS):
        assert tick(engine, start_sender, "kill") is None
    assert campaign_row(engine, poisonous)["status"] == "running"
    summary = tick(engine, start_sender, "kill")
    assert summary is not None
    # The first death was over the campaign, the next ones each over one row.
    assert (summary["campaigns_paused"], summary["failed"], ses.accepted()) == (1, 1, [])
    assert statuses(engine, poisonous) == {"failed": 2, "cancelled": 18}
    assert {row["error_code"] for row in rows_of(engine, poisonous)} == {None, "sender_died"}
    with engine.connect() as opened:
        found = diagnose(opened, poisonous, "test")
    assert found.cause == "campaign_paused"
    assert "a sender died or got stuck 3 times" in found.message
    lifecycle.resume_campaign(engine, poisonous)
    assert campaign_row(engine, poisonous)["sender_deaths"] == 0


def test_email_that_cannot_be_composed_in_time_is_stopped_and_the_tick_goes_on(
    engine: sa.Engine, connection: sa.Connection, ses: SesSimulator, start_sender: StartSender
) -> None:
    poisonous = started(engine, connection, PEOPLE, "Poison Ltd")
    good = started(engine, connection, PEOPLE)
    summary = tick(engine, start_sender, "stall")
    assert summary is not None
    # The first time nothing was claimed for it: its content was tried.
    assert (summary["sent"], summary["failed"], summary["campaigns_paused"]) == (PEOPLE, 2, 1)
    assert statuses(engine, good) == {"sent": PEOPLE}
    assert statuses(engine, poisonous)["failed"] == 2
    assert "a sender died or got stuck 3 times" in campaign_row(engine, poisonous)["failure_reason"]


def test_one_poisonous_row_fails_alone_after_one_more_death(
    engine: sa.Engine, connection: sa.Connection, ses: SesSimulator, resources: Resources, start_sender: StartSender
) -> None:
    campaign_id = started(engine, connection, 30)
    victim = rows_of(engine, campaign_id)[17]["lead_id"]
    connection.execute(sa.update(leads).where(leads.c.id == victim).values(company_name="Poison Ltd"))
    connection.commit()
    assert tick(engine, start_sender, "kill") is None
    assert tick(engine, start_sender, "kill") is None
    assert tick(engine, start_sender, "kill") is not None
    let_it_settle(engine, resources)
    (failed,) = (row for row in rows_of(engine, campaign_id) if row["status"] == "failed")
    assert failed["lead_id"] == victim
    assert assert_ledger_is_consistent(engine, ses).emails_by_status == {"sent": 29, "failed": 1}


def test_rows_of_a_dead_sender_go_back_at_once_and_those_of_a_living_one_do_not(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    campaign_id = started(engine, connection, 10)
    living, dead = uuid.uuid4(), uuid.uuid4()
    alive, gone = LivingSender(engine, living), LivingSender(engine, dead)
    for token in (living, dead):
        with engine.begin() as opened:
            claim_emails.claim(opened, 4, token)
    dies(gone)
    held = "SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database WHERE locktype = 'advisory'"
    wait_until(engine, f"({held} AND datname = current_database()) = 1")
    with engine.begin() as opened:
        assert sweep.sweep(opened).returned == 4
    assert statuses(engine, campaign_id) == {"sending": 4, "pending": 6}
    alive.leave()


def test_campaigns_that_share_the_blame_are_prepared_alone_until_they_have_done_no_harm(
    engine: sa.Engine, connection: sa.Connection, resources: Resources
) -> None:
    campaign_ids = [started(engine, connection, 3) for _ in range(2)]
    gone = LivingSender(engine, uuid.uuid4())
    gone.prepares(campaign_ids)
    dies(gone)
    no_dead_sender_is_connected(engine)
    with engine.begin() as opened:
        assert sweep.sweep(opened).to_pause == {}
    for campaign_id in campaign_ids:
        row = campaign_row(engine, campaign_id)
        assert (row["prepared_alone"], row["sender_deaths"]) == (True, 0)
    with engine.begin() as opened:
        assert claim_emails.claim(opened, 10, uuid.uuid4()) == []
    assert send_due_emails(resources, 60.0).sent == 6
    assert not any(campaign_row(engine, campaign_id)["prepared_alone"] for campaign_id in campaign_ids)


def test_sender_that_is_stuck_is_found_though_it_still_lives(
    engine: sa.Engine, connection: sa.Connection, resources: Resources
) -> None:
    campaign_id = started(engine, connection, 3)
    stuck = LivingSender(engine, uuid.uuid4())
    stuck.prepares([campaign_id])
    with engine.begin() as opened:
        assert sweep.sweep(opened).returned == 0
        claim_emails.claim(opened, 3, stuck._token)
        opened.execute(sa.text("UPDATE senders SET preparing_since = preparing_since - interval '1 minute'"))
    with engine.begin() as opened:
        assert sweep.sweep(opened).returned == 3
    assert campaign_row(engine, campaign_id)["sender_deaths"] == 1
    stuck.leave()
    assert send_due_emails(resources, 60.0).sent == 3


def test_content_that_becomes_due_while_others_are_sent_leaves_no_outcome_unknown(
    engine: sa.Engine, connection: sa.Connection, ses: SesSimulator, start_sender: StartSender
) -> None:
    good = started(engine, connection, PEOPLE)
    ses.account.max_send_rate = 50
    sender = start_sender(poison="kill")
    wait_for(lambda: ses.counts.send_requests > 0, "the good emails are being sent")
    started(engine, connection, PEOPLE, "Poison Ltd")
    assert sender.wait() is None
    assert statuses(engine, good)["sent"] > 0
    assert not any(row["send_started_at"] for row in rows_of(engine, good) if row["status"] == "sending")


def test_content_is_tried_once_and_no_more_in_the_next_tick(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    composed: list[int] = []
    compose = Composer.compose

    def counted(self: Composer, content: Any, email: Any, *rest: Any) -> Any:
        composed.append(email.id)
        return compose(self, content, email, *rest)

    monkeypatch.setattr(Composer, "compose", counted)
    started(engine, connection, 3)
    started(engine, connection, 3, delays=[NO_DELAY, DAY])
    # One email of each campaign is tried for each of its steps.
    assert (send_due_emails(resources, 60.0).sent, len(composed)) == (6, 3 + 6)
    pass_time(engine, DAY)
    assert (send_due_emails(resources, 60.0).sent, len(composed)) == (3, 3 + 6 + 3)


def test_isolated_campaign_comes_first_in_the_last_seconds_of_a_tick(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    isolated = started(engine, connection, 3)
    connection.execute(sa.text("UPDATE campaigns SET prepared_alone = true"))
    connection.commit()
    started(engine, connection, 30)
    for seconds, claimed in ((60.0, False), (0.0, True)):
        in_hand = ClaimedEmails(engine, uuid.uuid4(), TickSummary(), time.monotonic() + seconds)
        in_hand.claim(10, nothing_in_hand=False)
        assert ({email.campaign_id for email in in_hand.emails} == {isolated}) is in_hand.alone is claimed
