"""Several senders at once, and campaigns that change under them."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from sendledger.campaigns import completion, lifecycle
from sendledger.core.errors import IllegalTransition
from sendledger.core.tables import email_templates, leads
from sendledger.ledger import claim_emails, record_results
from sendledger.ledger.record_results import SendResult
from sendledger.sending import pace
from sendledger.sending.tick import Resources, send_due_emails
from sendledger.ses.answers import Answer, SendOutcome
from testbed.campaigns import DAY, NO_DELAY, campaign_row, make_campaign, pass_time, rows_of, statuses
from testbed.invariants import assert_ledger_is_consistent, let_it_settle, wait_for
from testbed.sender_process import install
from tests.faults.conftest import StartSender

SECONDS = 60.0


@pytest.mark.parametrize("senders", [2, 8])
def test_overlapping_senders_share_the_work_and_send_nothing_twice(
    senders: int,
    engine: sa.Engine,
    connection: sa.Connection,
    ses: SesSimulator,
    resources: Resources,
    start_sender: StartSender,
) -> None:
    campaign_ids = [make_campaign(connection, 60, [NO_DELAY, NO_DELAY]) for _ in range(4)]
    for campaign_id in campaign_ids:
        lifecycle.start_campaign(engine, campaign_id)
    ses.account.latency_ms = 5
    for running in [start_sender() for _ in range(senders)]:
        running.wait()
    let_it_settle(engine, resources)
    found = assert_ledger_is_consistent(engine, ses)
    assert found.emails_by_status == {"sent": 4 * 60 * 2}
    assert {campaign_row(engine, campaign_id)["status"] for campaign_id in campaign_ids} == {"completed"}


def test_duplicate_ticks_do_no_harm(
    engine: sa.Engine, connection: sa.Connection, ses: SesSimulator, resources: Resources
) -> None:
    campaign_id = make_campaign(connection, 30)
    lifecycle.start_campaign(engine, campaign_id)
    with ThreadPoolExecutor(3) as pool:
        summaries = list(pool.map(lambda _: send_due_emails(resources, SECONDS), range(3)))
    assert sum(summary.sent for summary in summaries) == 30
    assert sum(summary.campaigns_completed for summary in summaries) == 1
    assert_ledger_is_consistent(engine, ses)


def test_senders_that_are_killed_while_others_go_on(
    engine: sa.Engine, connection: sa.Connection, ses: SesSimulator, resources: Resources, start_sender: StartSender
) -> None:
    campaign_id = make_campaign(connection, 150, [NO_DELAY, DAY])
    lifecycle.start_campaign(engine, campaign_id)
    ses.account.latency_ms = 20
    ses.account.max_send_rate = 100
    running = [start_sender() for _ in range(4)]
    wait_for(lambda: len(ses.accepted()) >= 20, "20 emails")
    for victim in running[:2]:
        victim.kill()
    for each in running:
        each.wait()
    ses.account.max_send_rate = None
    let_it_settle(engine, resources)
    assert_ledger_is_consistent(engine, ses)
    assert campaign_row(engine, campaign_id)["status"] == "completed"


def test_two_last_rows_recorded_by_two_senders_complete_the_campaign_once(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    campaign_id = make_campaign(connection, 2)
    lifecycle.start_campaign(engine, campaign_id)
    results = []
    for _ in range(2):
        token = uuid.uuid4()
        with engine.begin() as opened:
            (email,) = claim_emails.claim(opened, 1, token)
        with engine.begin() as opened:
            assert claim_emails.fence(opened, [email], token).sendable.keys() == {email.id}
        results.append((SendResult(email, SendOutcome(Answer.SENT, str(email.id)), None, 0.0), token))
    with engine.connect() as first, ThreadPoolExecutor(1) as pool:
        record_results.record(first, [results[0][0]], results[0][1])

        def second_sender() -> bool:
            with engine.begin() as second:
                record_results.record(second, [results[1][0]], results[1][1])
            return completion.mark_campaign_complete(engine, campaign_id)

        second = pool.submit(second_sender)
        wait_for(lambda: _waiting(connection), "the second sender's wait")
        first.commit()
        completed = [completion.mark_campaign_complete(engine, campaign_id), second.result()]
    assert sorted(completed) == [False, True]
    campaign = campaign_row(engine, campaign_id)
    assert (campaign["status"], campaign["emails_sent_count"]) == ("completed", 2)


def _waiting(connection: sa.Connection) -> bool:
    connection.rollback()
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return bool(connection.execute(sa.text(query)).scalar_one())


# Pause, resume and cancel at any point of a tick

POINTS = [
    *("claim.before", "claim.after_commit", "fence.before", "fence.after_commit", "send.before", "answer.after"),
    *("record.before", "record.after_commit", "complete.before"),
]


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("action", ["pause", "cancel"])
def test_after_pause_or_cancel_only_what_was_fenced_is_sent(
    action: str, point: str, engine: sa.Engine, connection: sa.Connection, ses: SesSimulator, resources: Resources
) -> None:
    campaign_id = make_campaign(connection, 12, [NO_DELAY, DAY])
    lifecycle.start_campaign(engine, campaign_id)
    in_flight: set[int] = set()

    def act() -> None:
        if action == "pause":
            lifecycle.pause_campaign(engine, campaign_id)
        else:
            lifecycle.cancel_campaign(engine, campaign_id)
        in_flight.update(row["id"] for row in rows_of(engine, campaign_id) if row["send_started_at"] is not None)

    uninstall = install(resources.engine, point, act)
    try:
        send_due_emails(resources, SECONDS)
    finally:
        uninstall()
    assert {int(email.tags["scheduled_email_id"]) for email in ses.accepted()} <= in_flight
    assert set(statuses(engine, campaign_id)) <= {"sent", "cancelled"}
    let_it_settle(engine, resources)
    assert_ledger_is_consistent(engine, ses)
    if action == "pause":
        lifecycle.resume_campaign(engine, campaign_id)
        let_it_settle(engine, resources)
        assert statuses(engine, campaign_id) == {"sent": 24}
        assert_ledger_is_consistent(engine, ses)


@pytest.mark.parametrize("point", POINTS)
def test_pause_and_resume_at_once_at_any_point_of_a_tick(
    point: str, engine: sa.Engine, connection: sa.Connection, ses: SesSimulator, resources: Resources
) -> None:
    campaign_id = make_campaign(connection, 6, [NO_DELAY, DAY])
    lifecycle.start_campaign(engine, campaign_id)

    def act() -> None:
        lifecycle.pause_campaign(engine, campaign_id)
        lifecycle.resume_campaign(engine, campaign_id)

    uninstall = install(resources.engine, point, act)
    try:
        send_due_emails(resources, SECONDS)
    finally:
        uninstall()
    let_it_settle(engine, resources)
    found = assert_ledger_is_consistent(engine, ses)
    assert found.emails_by_status == {"sent": 12}


def test_pauses_and_resumes_that_race_with_senders(
    engine: sa.Engine,
    connection: sa.Connection,
    ses: SesSimulator,
    resources: Resources,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pace, "MAX_CHUNK", 7)
    campaign_ids = [make_campaign(connection, 40, [NO_DELAY, NO_DELAY]) for _ in range(3)]
    for campaign_id in campaign_ids:
        lifecycle.start_campaign(engine, campaign_id)
    ses.account.latency_ms = 2
    with ThreadPoolExecutor(2) as pool:
        ticks = [pool.submit(send_due_emails, resources, SECONDS) for _ in range(2)]
        changes = 0
        while not all(tick.done() for tick in ticks) and changes < 24:
            campaign_id = campaign_ids[changes % 3]
            change: Callable[..., Any] = lifecycle.resume_campaign if (changes // 3) % 2 else lifecycle.pause_campaign
            with contextlib.suppress(IllegalTransition):  # completed
                change(engine, campaign_id)
            changes += 1
        for tick in ticks:
            tick.result()
    for campaign_id in campaign_ids:
        if campaign_row(engine, campaign_id)["status"] == "paused":
            lifecycle.resume_campaign(engine, campaign_id)
    let_it_settle(engine, resources)
    found = assert_ledger_is_consistent(engine, ses)
    assert found.emails_by_status == {"sent": 240}


# Leads and templates that change in the middle


def test_leads_deleted_in_the_middle_get_nothing_more(
    engine: sa.Engine, connection: sa.Connection, ses: SesSimulator, resources: Resources
) -> None:
    campaign_id = make_campaign(connection, 6, [NO_DELAY, DAY])
    lifecycle.start_campaign(engine, campaign_id)
    send_due_emails(resources, SECONDS)
    deleted = [row["lead_id"] for row in rows_of(engine, campaign_id)][:4]
    with engine.begin() as opened:
        opened.execute(sa.delete(leads).where(leads.c.id.in_(deleted)))
    let_it_settle(engine, resources)
    assert statuses(engine, campaign_id) == {"sent": 10, "skipped": 2}
    assert_ledger_is_consistent(engine, ses)


@pytest.mark.parametrize("point", ["claim.after_commit", "fence.after_commit", "answer.after", "record.before"])
def test_lead_deleted_while_its_email_is_under_way(
    point: str, engine: sa.Engine, connection: sa.Connection, ses: SesSimulator, resources: Resources
) -> None:
    campaign_id = make_campaign(connection, 3)
    lifecycle.start_campaign(engine, campaign_id)

    def delete_leads() -> None:
        with engine.begin() as opened:
            opened.execute(sa.delete(leads))

    uninstall = install(resources.engine, point, delete_leads)
    try:
        send_due_emails(resources, SECONDS)
    finally:
        uninstall()
    let_it_settle(engine, resources)
    found = assert_ledger_is_consistent(engine, ses)
    assert found.emails_by_status == {"skipped" if point == "claim.after_commit" else "sent": 3}


def test_template_edited_in_the_middle_changes_nothing(
    engine: sa.Engine, connection: sa.Connection, ses: SesSimulator, resources: Resources
) -> None:
    campaign_id = make_campaign(connection, 2, [NO_DELAY, DAY])
    lifecycle.start_campaign(engine, campaign_id)
    send_due_emails(resources, SECONDS)
    with engine.begin() as opened:
        opened.execute(sa.update(email_templates).values(subject="{{ broken", body_text="{{ broken"))
    let_it_settle(engine, resources)
    assert statuses(engine, campaign_id) == {"sent": 4}
    assert {email.subject.split(" for")[0] for email in ses.accepted()} == {"Step 1", "Step 2"}


# Rows that nobody can send

POISON = """{% set mode = custom_fields.mode | default("") %}{% if mode == "raise" %}{{ "x" | round }}
{%- elif mode == "long" %}{% for a in custom_fields.texts %}{{ a }}{{ a }}{% endfor %}
{%- elif mode == "undefined" %}{{ nobody_knows }}
{%- elif mode == "surrogate" %}{{ "\\ud800" }}
{%- elif mode == "nul" %}{{ "\\x00" }}
{%- elif mode == "value" %}{{ custom_fields.text }}
{%- else %}Hello{% endif %}"""


def test_poison_rows_fail_alone(
    engine: sa.Engine, connection: sa.Connection, ses: SesSimulator, resources: Resources
) -> None:
    modes = ["raise", "value", "long", "undefined", "surrogate", "nul"]
    campaign_id = make_campaign(connection, [f"{mode}@example.com" for mode in [*modes, "good", "gone"]])
    for mode in modes:
        connection.execute(
            sa.update(leads)
            .where(leads.c.email == f"{mode}@example.com")
            .values(custom_fields={"mode": mode, "text": "x" * 10_001, "texts": ["x" * 9_000] * 60})
        )
    connection.execute(sa.update(email_templates).values(body_text=POISON))
    connection.commit()
    lifecycle.start_campaign(engine, campaign_id)
    connection.execute(sa.update(leads).where(leads.c.email == "gone@example.com").values(email=None))
    connection.commit()
    summary = send_due_emails(resources, SECONDS)
    assert (summary.sent, summary.failed, summary.skipped) == (1, len(modes), 1)
    query = "SELECT l.email, e.error_code FROM scheduled_emails e JOIN leads l ON l.id = e.lead_id"
    codes = {address: code for address, code in connection.execute(sa.text(query))}  # noqa: C416 (rows are no pairs)
    assert codes == {
        "raise@example.com": "template_error",
        "value@example.com": "too_long",
        "long@example.com": "too_long",
        "undefined@example.com": "undefined_variable",
        "surrogate@example.com": "control_character",
        "nul@example.com": "control_character",
        "good@example.com": None,
        None: None,
    }
    assert campaign_row(engine, campaign_id)["status"] == "completed"
    assert_ledger_is_consistent(engine, ses)


def test_late_step_keeps_the_gap_to_the_next_though_both_are_due(
    engine: sa.Engine, connection: sa.Connection, ses: SesSimulator, resources: Resources
) -> None:
    campaign_id = make_campaign(connection, 3, [NO_DELAY, DAY])
    lifecycle.start_campaign(engine, campaign_id)
    with engine.begin() as opened:
        opened.execute(sa.text("UPDATE scheduled_emails SET scheduled_for = scheduled_for - interval '3 days'"))
    send_due_emails(resources, SECONDS)
    send_due_emails(resources, SECONDS)
    assert statuses(engine, campaign_id) == {"sent": 3, "pending": 3}
    first, second, *_ = rows_of(engine, campaign_id)
    assert second["scheduled_for"] >= first["sent_at"] + DAY
    pass_time(engine, DAY)
    let_it_settle(engine, resources)
    assert statuses(engine, campaign_id) == {"sent": 6}
