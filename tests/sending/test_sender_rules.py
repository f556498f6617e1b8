"""Whose turn it is, how fast, and what must not be sent at all: pacing, fairness, the late guard, one deployment."""

from __future__ import annotations

import dataclasses
import datetime as dt
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from sendledger.campaigns import completion, late_emails, lifecycle
from sendledger.core.errors import Conflict, NotThisDeployment
from sendledger.core.tables import scheduled_emails, suppressions
from sendledger.ledger import claim_emails, rate_limiter, sender_state
from sendledger.sending import prepare_emails
from sendledger.sending.ses_calls import Call, SesCalls
from sendledger.sending.tick import Resources, send_due_emails, send_scheduled_email
from testbed.campaigns import DAY, NO_DELAY, campaign_row, make_campaign, make_template, pass_time, rows_of, statuses
from testbed.invariants import assert_ledger_is_consistent, let_it_settle
from testbed.senders import sender_resources

SECONDS = 60.0
HOUR = dt.timedelta(hours=1)


def started(
    engine: sa.Engine, connection: sa.Connection, leads: int, delays: list[dt.timedelta] | None = None
) -> uuid.UUID:
    campaign_id = make_campaign(connection, leads, delays)
    lifecycle.start_campaign(engine, campaign_id)
    return campaign_id


# Pacing


@pytest.mark.parametrize("senders", [1, 2])
def test_rate_is_used_and_never_exceeded(
    senders: int,
    engine: sa.Engine,
    sender_engine: sa.Engine,
    connection: sa.Connection,
    ses: SesSimulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rate, emails = 100, 300
    due: list[float] = []
    send = SesCalls.send

    def noting_send(ses_calls: SesCalls, calls: Sequence[Call]) -> None:
        due.extend(call.due for call in calls)
        send(ses_calls, calls)

    monkeypatch.setattr(SesCalls, "send", noting_send)
    resources = sender_resources(sender_engine, ses.url)
    started(engine, connection, emails)
    ses.account.max_send_rate = rate
    with ThreadPoolExecutor(senders) as pool:
        began = time.monotonic()
        summaries = list(pool.map(lambda _: send_due_emails(resources, SECONDS), range(senders)))
        seconds = time.monotonic() - began
    assert sum(summary.sent for summary in summaries) == emails
    assert ses.counts.rejected == 0
    # When SES reads them depends on the machine; when they were to be sent does not.
    planned = sorted(due)
    assert len(planned) == emails
    assert all(later - earlier >= 1.0 for earlier, later in zip(planned, planned[rate:], strict=False))
    # How much of the rate is used is measured by bench/sending.py. Here the machine may be busy.
    assert seconds < 10 * emails / rate


def test_senders_share_one_rate_limit(engine: sa.Engine) -> None:
    waits = []
    for _ in range(3):
        with engine.begin() as connection:
            waits.append(rate_limiter.reserve_rate(connection, 100, 50.0))
    assert waits[0] == 0
    assert [round(wait) for wait in waits] == [0, 2, 4]


# Fairness


def test_large_campaign_does_not_starve_small_ones(engine: sa.Engine, connection: sa.Connection) -> None:
    large = started(engine, connection, 2000)
    small = [started(engine, connection, 5) for _ in range(20)]
    claimed: dict[uuid.UUID, int] = {}
    for _ in range(3):
        with engine.begin() as opened:
            for email in claim_emails.claim(opened, 100, uuid.uuid4()):
                claimed[email.campaign_id] = claimed.get(email.campaign_id, 0) + 1
    assert {claimed.get(campaign_id) for campaign_id in small} == {5}
    assert claimed[large] > 100


def test_claim_is_limited_to_its_batch(engine: sa.Engine, connection: sa.Connection) -> None:
    for _ in range(7):
        started(engine, connection, 30)
    for batch in (1, 3, 7, 10, 50):
        with engine.begin() as opened:
            assert len(claim_emails.claim(opened, batch, uuid.uuid4())) == batch


# What is not claimed


@pytest.mark.parametrize(
    "status", ["draft", "scheduled", "paused", "completed", "cancelled", "failed", "archived", "active"]
)
def test_only_a_running_campaign_is_claimed(engine: sa.Engine, connection: sa.Connection, status: str) -> None:
    campaign_id = started(engine, connection, 3)
    connection.execute(
        sa.text("""
            UPDATE campaigns SET status = :status, start_type = 'scheduled', scheduled_start_at = now() + '1 day'
            WHERE id = :id
        """),
        {"status": status, "id": campaign_id},
    )
    connection.commit()
    with engine.begin() as opened:
        assert claim_emails.claim(opened, 10, uuid.uuid4()) == []


def test_email_that_is_not_due_is_not_claimed(
    engine: sa.Engine, connection: sa.Connection, resources: Resources
) -> None:
    campaign_id = started(engine, connection, 2, [DAY])
    assert send_due_emails(resources, SECONDS).claimed == 0
    assert statuses(engine, campaign_id) == {"pending": 2}


@pytest.mark.parametrize("value", ["ann@example.com", "example.com"])
def test_address_suppressed_after_the_start_gets_nothing(
    value: str, engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = make_campaign(connection, ["Ann@Example.com", "bob@example.org"])
    lifecycle.start_campaign(engine, campaign_id)
    connection.execute(sa.insert(suppressions).values(value=value, reason="manual"))
    connection.commit()
    summary = send_due_emails(resources, SECONDS)
    assert (summary.sent, summary.skipped, summary.left_out["suppressed"]) == (1, 1, 1)
    assert {row["reason"] for row in rows_of(engine, campaign_id)} == {None, "suppressed"}
    assert campaign_row(engine, campaign_id)["status"] == "completed"


def test_address_that_changes_between_claim_and_fence_is_not_sent_to(
    engine: sa.Engine,
    connection: sa.Connection,
    resources: Resources,
    ses: SesSimulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    campaign_id = make_campaign(connection, ["old@example.com"])
    lifecycle.start_campaign(engine, campaign_id)
    reserve_rate = rate_limiter.reserve_rate

    def change_address(opened: sa.Connection, count: int, rate: float) -> float:
        with engine.begin() as other:
            other.execute(sa.text("UPDATE leads SET email = 'new@example.com'"))
        return reserve_rate(opened, count, rate)

    monkeypatch.setattr(rate_limiter, "reserve_rate", change_address)
    send_due_emails(resources, SECONDS)
    assert [mail.destination for mail in ses.accepted()] == [("new@example.com",)]
    assert statuses(engine, campaign_id) == {"sent": 1}


# The late guard


def outage(engine: sa.Engine, time: dt.timedelta) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE sender_state SET last_tick_at = now()"))
    pass_time(engine, time)


def test_emails_that_an_outage_made_late_are_held(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = started(engine, connection, 3, [NO_DELAY, 2 * DAY])
    outage(engine, DAY)
    assert send_due_emails(resources, SECONDS).campaigns_held == 1
    assert (ses.accepted(), statuses(engine, campaign_id)) == ([], {"pending": 6})
    assert send_due_emails(resources, SECONDS).claimed == 0
    assert not completion.mark_campaign_complete(engine, campaign_id)


def test_outage_does_not_release_emails_that_an_operator_holds(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    started(engine, connection, 3)
    outage(engine, DAY)
    # As after a restored snapshot: what is due by now may have gone out, also what was due only a minute ago.
    with engine.begin() as opened:
        opened.execute(sa.text("UPDATE campaigns SET late_hold_until = now()"))
        opened.execute(
            sa.text("UPDATE scheduled_emails SET scheduled_for = now() - interval '1 minute' WHERE mod(id, 3) = 0")
        )
    assert send_due_emails(resources, SECONDS).campaigns_held == 1
    assert send_due_emails(resources, SECONDS).claimed == 0
    assert ses.accepted() == []


def test_account_that_was_blocked_for_days_has_been_an_outage(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = started(engine, connection, 3)
    outage(engine, HOUR)
    ses.account.sending_enabled = False
    for _ in range(2):
        assert (send_due_emails(resources, SECONDS).stopped or "").startswith("account")
        pass_time(engine, DAY)
    ses.account.sending_enabled = True
    assert send_due_emails(resources, SECONDS).campaigns_held == 1
    assert (ses.accepted(), statuses(engine, campaign_id)) == ([], {"pending": 3})


def test_used_up_daily_quota_is_no_outage(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    started(engine, connection, 3)
    outage(engine, HOUR)
    ses.account.max_24_hour_send = 0
    for _ in range(3):
        assert (send_due_emails(resources, SECONDS).stopped or "").startswith("daily_quota")
        pass_time(engine, 5 * HOUR)
    ses.account.max_24_hour_send = -1
    summary = send_due_emails(resources, SECONDS)
    assert (summary.campaigns_held, summary.sent) == (0, 3)


def test_own_backlog_is_no_outage(engine: sa.Engine, connection: sa.Connection, resources: Resources) -> None:
    started(engine, connection, 3)
    pass_time(engine, DAY)
    with engine.begin() as opened:
        opened.execute(sa.text("UPDATE sender_state SET last_tick_at = now() - interval '2 minutes'"))
    summary = send_due_emails(resources, SECONDS)
    assert (summary.campaigns_held, summary.sent) == (0, 3)


@pytest.mark.parametrize(("action", "sent", "skipped"), [("send", 6, 0), ("skip", 3, 3)])
def test_operator_decides_about_late_emails(
    action: str,
    sent: int,
    skipped: int,
    engine: sa.Engine,
    connection: sa.Connection,
    resources: Resources,
    ses: SesSimulator,
) -> None:
    campaign_id = started(engine, connection, 3, [NO_DELAY, 2 * DAY])
    outage(engine, DAY)
    send_due_emails(resources, SECONDS)
    late_emails.decide_late_emails(engine, campaign_id, action, "ann")
    with pytest.raises(Conflict):
        late_emails.decide_late_emails(engine, campaign_id, action, "ann")
    let_it_settle(engine, resources)
    expected = {"sent": sent, "skipped": skipped}
    assert statuses(engine, campaign_id) == {status: count for status, count in expected.items() if count}
    assert_ledger_is_consistent(engine, ses)


# One deployment


def test_pause_and_resume_release_nothing_that_is_held(
    engine: sa.Engine, connection: sa.Connection, resources: Resources
) -> None:
    campaign_id = started(engine, connection, 3, [NO_DELAY, DAY])
    outage(engine, 7 * HOUR)
    assert send_due_emails(resources, SECONDS).campaigns_held == 1
    lifecycle.pause_campaign(engine, campaign_id)
    pass_time(engine, 3 * HOUR)
    lifecycle.resume_campaign(engine, campaign_id)
    assert send_due_emails(resources, SECONDS).sent == 0
    late_emails.decide_late_emails(engine, campaign_id, "skip", "ann")
    send_due_emails(resources, SECONDS)
    assert statuses(engine, campaign_id) == {"skipped": 3, "pending": 3}


@pytest.mark.parametrize(
    ("action", "at_resume", "in_the_end"),
    [
        ("send", {"sent": 3, "pending": 6}, {"sent": 9}),
        ("skip", {"skipped": 3, "pending": 6}, {"skipped": 3, "sent": 6}),
    ],
)
def test_operator_decides_about_late_emails_of_a_paused_campaign(
    engine: sa.Engine,
    connection: sa.Connection,
    resources: Resources,
    ses: SesSimulator,
    action: str,
    at_resume: dict[str, int],
    in_the_end: dict[str, int],
) -> None:
    campaign_id = started(engine, connection, 3, [NO_DELAY, DAY, DAY])
    outage(engine, 7 * HOUR)
    assert send_due_emails(resources, SECONDS).campaigns_held == 1
    lifecycle.pause_campaign(engine, campaign_id)
    pass_time(engine, 3 * HOUR)
    late_emails.decide_late_emails(engine, campaign_id, action, "ann")
    with pytest.raises(Conflict):
        late_emails.decide_late_emails(engine, campaign_id, action, "ann")
    assert send_due_emails(resources, SECONDS).sent == 0
    pass_time(engine, 3 * HOUR)
    lifecycle.resume_campaign(engine, campaign_id)
    send_due_emails(resources, SECONDS)
    assert statuses(engine, campaign_id) == at_resume
    let_it_settle(engine, resources)
    assert statuses(engine, campaign_id) == in_the_end
    assert_ledger_is_consistent(engine, ses)


def test_copy_of_the_database_does_not_send(
    engine: sa.Engine, sender_engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = started(engine, connection, 3)
    send_due_emails(sender_resources(sender_engine, ses.url, DEPLOYMENT_ID="the-original"), 0.0)
    for attempt in (send_due_emails, lambda resources, seconds: send_scheduled_email(resources, 1, seconds)):
        with pytest.raises(NotThisDeployment) as caught:
            attempt(resources, SECONDS)
        assert caught.value.data["owner"] == "the-original"
    assert statuses(engine, campaign_id) == {"pending": 3}
    with engine.begin() as opened:
        # As docs/operations/restore.md says.
        opened.execute(sa.text("UPDATE sender_state SET deployment_id = 'test', last_tick_at = now()"))
    assert send_due_emails(resources, SECONDS).sent == 3


def test_stop_holds_for_every_sender_and_is_not_shortened(
    engine: sa.Engine, connection: sa.Connection, resources: Resources
) -> None:
    campaign_id = started(engine, connection, 3)
    for seconds in (None, 60.0):
        with engine.begin() as opened:
            sender_state.stop(opened, "sending_paused", "by hand", seconds)
    pass_time(engine, HOUR)
    for further in (False, True):
        summary = send_due_emails(resources, SECONDS, further=further)
        assert (summary.claimed, summary.stopped) == (0, "sending_paused: by hand")
    row_id = rows_of(engine, campaign_id)[0]["id"]
    assert send_scheduled_email(resources, row_id, SECONDS).stopped == "sending_paused: by hand"
    assert statuses(engine, campaign_id) == {"pending": 3}


# Send now


def test_send_now_sends_an_email_before_it_is_due(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = started(engine, connection, 2, [DAY])
    row_id = rows_of(engine, campaign_id)[0]["id"]
    assert send_scheduled_email(resources, row_id, SECONDS).sent == 1
    assert statuses(engine, campaign_id) == {"sent": 1, "pending": 1}
    again = send_scheduled_email(resources, row_id, SECONDS)
    assert (again.sent, (again.stopped or "")[:11]) == (0, "not_pending")
    assert len(ses.accepted()) == 1


def test_send_now_does_not_overtake_an_earlier_step(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = started(engine, connection, 1, [DAY, DAY])
    first, second = rows_of(engine, campaign_id)
    assert send_scheduled_email(resources, second["id"], SECONDS).left_out == {"waits_for_earlier_step": 1}
    assert ses.accepted() == []
    assert send_scheduled_email(resources, first["id"], SECONDS).sent == 1
    assert send_scheduled_email(resources, second["id"], SECONDS).sent == 1


def test_send_now_sends_nothing_of_a_paused_campaign(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = started(engine, connection, 1)
    lifecycle.pause_campaign(engine, campaign_id)
    (row,) = rows_of(engine, campaign_id)
    assert send_scheduled_email(resources, row["id"], SECONDS).sent == 0
    assert ses.accepted() == []


# Steps and their gaps


def test_late_step_moves_the_next_one_so_that_the_gap_is_kept(
    engine: sa.Engine, connection: sa.Connection, resources: Resources
) -> None:
    campaign_id = started(engine, connection, 1, [NO_DELAY, DAY])
    pass_time(engine, 3 * HOUR)
    send_due_emails(resources, SECONDS)
    first, second = rows_of(engine, campaign_id)
    assert second["scheduled_for"] == first["sent_at"] + DAY


def test_skipped_step_does_not_stop_the_next(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = started(engine, connection, 1, [NO_DELAY, NO_DELAY])
    first = rows_of(engine, campaign_id)[0]["id"]
    connection.execute(
        sa.update(scheduled_emails).where(scheduled_emails.c.id == first).values(status="skipped", reason="late")
    )
    connection.commit()
    assert send_due_emails(resources, SECONDS).sent == 1


# Further senders


def test_further_senders_are_started_when_one_is_not_enough(
    engine: sa.Engine, sender_engine: sa.Engine, connection: sa.Connection, ses: SesSimulator
) -> None:
    resources = sender_resources(sender_engine, ses.url, SENDER_CONCURRENCY="3", SENDER_CAPACITY_PER_SECOND="1")
    started(engine, connection, 200)
    calls: list[int] = []
    for start, expected in ((lambda: calls.append(1), 2), (lambda: 1 / 0, 0)):
        counted = dataclasses.replace(resources, start_sender=start)  # type: ignore[arg-type]
        summary = send_due_emails(counted, 25.0)
        assert summary.senders_started == expected
    assert len(calls) == 2


def test_results_that_could_not_be_written_are_written_at_the_end_of_the_tick(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = started(engine, connection, 3)
    ses.account.max_24_hour_send = 3  # so that the tick ends with its results unwritten
    # A sequence keeps its place when the transaction is rolled back: the first attempt alone is refused.
    connection.execute(sa.text("CREATE SEQUENCE attempts"))
    connection.execute(
        sa.text("""
            CREATE FUNCTION refuse_first() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
            BEGIN IF nextval('attempts') = 1 THEN RAISE EXCEPTION 'not now'; END IF; RETURN NULL; END $$
        """)
    )
    connection.execute(
        sa.text("CREATE TRIGGER refuse AFTER INSERT ON emails FOR EACH STATEMENT EXECUTE FUNCTION refuse_first()")
    )
    connection.commit()
    assert send_due_emails(resources, SECONDS).sent == 3
    assert connection.scalar(sa.text("SELECT last_value FROM attempts")) == 2
    assert statuses(engine, campaign_id) == {"sent": 3}
    assert_ledger_is_consistent(engine, ses)


# What does not fit


def test_large_emails_are_sent_and_recorded_a_few_at_a_time(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    emails, size, most = 100, 40_000, 200_000
    monkeypatch.setattr(prepare_emails, "MAX_CHUNK_BYTES", most)
    template = make_template(connection, body_html=f"<p>{'x' * size}</p>")
    campaign_id = make_campaign(connection, emails, email_template_id=template)
    lifecycle.start_campaign(engine, campaign_id)
    written: list[int] = []

    @sa.event.listens_for(resources.engine, "before_cursor_execute")
    def measure(connection: Any, cursor: Any, statement: str, parameters: Any, *more: Any) -> None:
        written.append(len(str(parameters)))

    assert send_due_emails(resources, SECONDS).sent == emails
    assert campaign_row(engine, campaign_id)["status"] == "completed"
    # Without a limit the results of all emails that were claimed together are written together.
    assert size < max(written) < emails * size / 2
