"""What start, schedule, pause, resume, cancel and completion do to a campaign and its rows, alone and at once."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from sendledger.campaigns import campaigns as campaigns_room
from sendledger.campaigns import completion, lifecycle, schedule_emails
from sendledger.campaigns.transitions import TRANSITIONS
from sendledger.core.errors import Conflict, IllegalTransition, InvalidInput, NobodyToEmail, NotFound
from sendledger.core.tables import campaigns, email_templates, lead_batches, leads, scheduled_emails, suppressions
from sendledger.core.vocabulary import CampaignStatus
from testbed.campaigns import (
    DAY,
    NO_DELAY,
    campaign_row,
    make_batch,
    make_campaign,
    make_template,
    pass_time,
    rows_of,
    statuses,
)

HOUR = dt.timedelta(hours=1)


def at_once(*actions: Callable[[], Any]) -> list[Any]:
    """Run the actions at the same moment; their results, or the errors that they raised."""
    barrier = threading.Barrier(len(actions))

    def run(action: Callable[[], Any]) -> Any:
        barrier.wait(300)
        try:
            return action()
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(actions)) as pool:
        return list(pool.map(run, actions))


def set_rows(connection: sa.Connection, campaign_id: Any, **values: Any) -> None:
    connection.execute(
        sa.update(scheduled_emails).where(scheduled_emails.c.campaign_id == campaign_id).values(**values)
    )
    connection.commit()


def database_now(connection: sa.Connection) -> dt.datetime:
    now: dt.datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    return now


# Start


def test_start_writes_every_step_of_every_lead_at_once(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = make_campaign(connection, 4, [NO_DELAY, DAY, 2 * DAY])
    started = lifecycle.start_campaign(engine, campaign_id)
    campaign = campaign_row(engine, campaign_id)
    assert (started.status, started.total_leads_targeted, started.emails_scheduled_count) == ("running", 4, 12)
    assert (campaign["status"], campaign["emails_scheduled_count"], campaign["background_work"]) == ("running", 12, [])
    begin = campaign["actual_started_at"]
    times = {row["workflow_step_number"]: row["scheduled_for"] for row in rows_of(engine, campaign_id)}
    assert times == {1: begin, 2: begin + DAY, 3: begin + 3 * DAY}


def test_of_two_starts_at_once_one_wins(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = make_campaign(connection, 50)
    results = at_once(*[lambda: lifecycle.start_campaign(engine, campaign_id)] * 2)
    (error,) = (result for result in results if isinstance(result, Exception))
    assert isinstance(error, IllegalTransition)
    assert error.data["status"] == "running"
    assert statuses(engine, campaign_id) == {"pending": 50}
    assert campaign_row(engine, campaign_id)["emails_scheduled_count"] == 50


def test_leads_that_are_left_out_are_counted_by_reason(engine: sa.Engine, connection: sa.Connection) -> None:
    addresses = ["ok@example.com", "OK@example.com ", None, "no-at", "opted@out.com", "a@blocked.org", "é@example.com"]
    batch_id = make_batch(connection, addresses)
    make_lead = {"company_name": "X", "industry": "spa", "source": "test", "batch_id": batch_id}
    for status in ("responded", "not_interested", "converted", "invalid", "interested"):
        connection.execute(sa.insert(leads).values(email=f"{status}@example.com", status=status, **make_lead))
    connection.execute(
        sa.insert(suppressions), [{"value": value, "reason": "manual"} for value in ("opted@out.com", "blocked.org")]
    )
    campaign_id = make_campaign(connection, batch_ids=[batch_id])
    started = lifecycle.start_campaign(engine, campaign_id)
    assert started.leads_left_out == {
        "duplicate_address": 1,
        "no_address": 1,
        "invalid_address": 2,
        "suppressed": 2,
        "lead_responded": 1,
        "lead_not_interested": 1,
        "lead_converted": 1,
        "lead_invalid": 1,
    }
    assert started.total_leads_targeted == started.emails_scheduled_count == 2
    assert campaign_row(engine, campaign_id)["leads_left_out"] == started.leads_left_out


def test_removed_and_foreign_suppressions_leave_nobody_out(engine: sa.Engine, connection: sa.Connection) -> None:
    other = make_campaign(connection, 1)
    campaign_id = make_campaign(connection, ["ann@example.com"])
    connection.execute(
        sa.insert(suppressions).values(value="ann@example.com", reason="manual", removed_at=sa.func.now())
    )
    connection.execute(sa.insert(suppressions).values(value="ann@example.com", reason="unsubscribe", campaign_id=other))
    connection.commit()
    assert lifecycle.start_campaign(engine, campaign_id).total_leads_targeted == 1


def test_start_with_nobody_left_changes_nothing(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = make_campaign(connection, ["no-at", None])
    before = campaign_row(engine, campaign_id)
    with pytest.raises(NobodyToEmail) as caught:
        lifecycle.start_campaign(engine, campaign_id)
    assert caught.value.data["leads_left_out"] == {"invalid_address": 1, "no_address": 1}
    assert campaign_row(engine, campaign_id) == before
    assert connection.scalar(sa.select(lead_batches.c.active_campaign_id)) is None


def test_start_without_content_is_refused(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = make_campaign(connection, 1, email_template_id=None)
    with pytest.raises(InvalidInput):
        lifecycle.start_campaign(engine, campaign_id)
    assert campaign_row(engine, campaign_id)["status"] == "draft"


def test_start_with_a_broken_template_names_the_step(engine: sa.Engine, connection: sa.Connection) -> None:
    template_id = make_template(connection, body_text="{{ first_name")
    campaign_id = make_campaign(connection, 1, email_template_id=template_id)
    with pytest.raises(InvalidInput) as caught:
        lifecycle.start_campaign(engine, campaign_id)
    assert [error.field for error in caught.value.errors] == ["steps.1.body_text"]


@pytest.mark.parametrize("campaign_type", ["lead_generation", "fully_automated"])
def test_other_types_of_campaign_cannot_be_started(
    engine: sa.Engine, connection: sa.Connection, campaign_type: str
) -> None:
    campaign_id = make_campaign(connection, 1, campaign_type=campaign_type)
    with pytest.raises(InvalidInput):
        lifecycle.start_campaign(engine, campaign_id)


def test_editing_a_template_does_not_change_a_running_campaign(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = make_campaign(connection, 1, [NO_DELAY, DAY])
    lifecycle.start_campaign(engine, campaign_id)
    connection.execute(sa.update(email_templates).values(subject="changed"))
    connection.commit()
    subjects = connection.scalars(sa.text("SELECT subject FROM campaign_steps ORDER BY step_number")).all()
    assert subjects == ["Step 1 for {{ first_name }}", "Step 2 for {{ first_name }}"]


# Lead batches


def test_batch_of_a_running_campaign_cannot_be_used_by_another(engine: sa.Engine, connection: sa.Connection) -> None:
    batch_id = make_batch(connection, ["ann@example.com"])
    first = make_campaign(connection, batch_ids=[batch_id])
    second = make_campaign(connection, batch_ids=[batch_id])
    lifecycle.start_campaign(engine, first)
    with pytest.raises(Conflict) as caught:
        lifecycle.start_campaign(engine, second)
    assert caught.value.data == {"lead_batch_id": str(batch_id), "campaign_id": str(first)}
    assert campaign_row(engine, second)["status"] == "draft"
    lifecycle.pause_campaign(engine, first)
    with pytest.raises(Conflict):
        lifecycle.start_campaign(engine, second)


def test_of_two_campaigns_started_at_once_one_gets_the_shared_batch(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    batch_id = make_batch(connection, ["ann@example.com"])
    pair = [make_campaign(connection, batch_ids=[batch_id]) for _ in range(2)]
    # Both have looked at the batch before either has taken it.
    with engine.connect() as holder:
        holder.execute(sa.select(lead_batches.c.id).where(lead_batches.c.id == batch_id).with_for_update())
        with ThreadPoolExecutor(2) as pool:
            starts = [pool.submit(lifecycle.start_campaign, engine, campaign_id) for campaign_id in pair]
            wait_for_waiting_sessions(connection, 2)
            holder.rollback()
            errors = [start.exception() for start in starts]
    assert sorted(type(error).__name__ for error in errors) == ["Conflict", "NoneType"]
    winner = pair[errors.index(None)]
    assert connection.scalar(sa.select(lead_batches.c.active_campaign_id)) == winner


def wait_for_waiting_sessions(connection: sa.Connection, count: int) -> None:
    """Returns when so many sessions of this database wait for a lock."""
    query = sa.text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    for _ in range(2000):
        connection.rollback()
        if connection.execute(query).scalar_one() >= count:
            return
        threading.Event().wait(0.005)
    raise AssertionError(f"no {count} sessions came to wait for a lock")


@pytest.mark.parametrize("ending", ["cancel", "complete"])
def test_batches_of_an_ended_campaign_are_free_and_remember_it(
    engine: sa.Engine, connection: sa.Connection, ending: str
) -> None:
    campaign_id = make_campaign(connection, 2)
    lifecycle.start_campaign(engine, campaign_id)
    if ending == "cancel":
        lifecycle.cancel_campaign(engine, campaign_id)
    else:
        set_rows(connection, campaign_id, status="skipped", reason="late")
        assert completion.mark_campaign_complete(engine, campaign_id)
    batch = connection.execute(sa.select(lead_batches)).mappings().one()
    assert batch["active_campaign_id"] is None
    (entry,) = batch["campaign_history"]
    assert (entry["campaign_id"], entry["emails_sent"]) == (str(campaign_id), 0)
    assert entry["status"] == {"cancel": "cancelled", "complete": "completed"}[ending]


# Scheduled start


def test_scheduled_campaign_is_started_by_the_tick_when_its_time_has_come(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    start = database_now(connection) + HOUR
    campaign_id = make_campaign(connection, 2, start_type="scheduled", scheduled_start_at=start)
    scheduled = lifecycle.start_campaign(engine, campaign_id)
    assert (scheduled.status, scheduled.scheduled_start_at) == ("scheduled", start)
    assert rows_of(engine, campaign_id) == []
    assert lifecycle.start_due_campaigns(engine) == []
    pass_time(engine, HOUR)
    assert lifecycle.start_due_campaigns(engine) == [campaign_id]
    assert statuses(engine, campaign_id) == {"pending": 2}
    assert lifecycle.start_due_campaigns(engine) == []


def test_scheduled_campaign_that_cannot_start_fails_with_its_reason(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    start = database_now(connection) + HOUR
    campaign_id = make_campaign(connection, ["no-at"], start_type="scheduled", scheduled_start_at=start)
    lifecycle.start_campaign(engine, campaign_id)
    pass_time(engine, HOUR)
    assert lifecycle.start_due_campaigns(engine) == []
    campaign = campaign_row(engine, campaign_id)
    assert campaign["status"] == "failed"
    assert "Nobody is left" in campaign["failure_reason"]


def test_failed_scheduled_start_can_be_corrected_and_restarted(engine: sa.Engine, connection: sa.Connection) -> None:
    start = database_now(connection) + HOUR
    campaign_id = make_campaign(connection, ["no-at"], start_type="scheduled", scheduled_start_at=start)
    lifecycle.start_campaign(engine, campaign_id)
    pass_time(engine, HOUR)
    lifecycle.start_due_campaigns(engine)
    batch_id = make_batch(connection, ["ann@example.com"])
    connection.commit()
    with engine.begin() as fixing:
        campaigns_room.update(fixing, campaign_id, {"batch_ids": [batch_id]})
    assert lifecycle.start_campaign(engine, campaign_id).status == "running"
    campaign = campaign_row(engine, campaign_id)
    assert (campaign["failed_at"], campaign["failure_reason"]) == (None, None)
    assert statuses(engine, campaign_id) == {"pending": 1}


def test_campaign_of_an_older_application_that_failed_on_the_way_cannot_be_started_again(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    campaign_id = make_campaign(connection, 1)
    connection.execute(sa.update(campaigns).values(status="failed", actual_started_at=sa.func.now()))
    connection.commit()
    with pytest.raises(IllegalTransition):
        lifecycle.start_campaign(engine, campaign_id)
    with pytest.raises(Conflict), engine.begin() as changing:
        campaigns_room.update(changing, campaign_id, {"from_address": "ann@example.com"})


def test_unscheduled_campaign_is_a_draft_and_does_not_start_by_itself(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    start = database_now(connection) + HOUR
    campaign_id = make_campaign(connection, 1, start_type="scheduled", scheduled_start_at=start)
    lifecycle.start_campaign(engine, campaign_id)
    assert lifecycle.unschedule_campaign(engine, campaign_id) == "draft"
    pass_time(engine, HOUR)
    assert lifecycle.start_due_campaigns(engine) == []
    assert campaign_row(engine, campaign_id)["status"] == "draft"


def test_campaign_that_was_started_meanwhile_is_not_marked_as_waiting(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    start = database_now(connection) + HOUR
    campaign_id = make_campaign(connection, 1, start_type="scheduled", scheduled_start_at=start)
    lifecycle.start_campaign(engine, campaign_id)
    pass_time(engine, HOUR)

    def start_then_refuse(campaign_id: Any) -> None:
        lifecycle.start_campaign(engine, campaign_id)
        raise Conflict("a lead batch is held")

    assert lifecycle.start_due_campaigns(engine, check=start_then_refuse) == []
    campaign = campaign_row(engine, campaign_id)
    assert (campaign["status"], campaign["failure_reason"]) == ("running", None)


def test_scheduled_campaign_waits_for_its_batch(engine: sa.Engine, connection: sa.Connection) -> None:
    batch_id = make_batch(connection, ["ann@example.com"])
    first = make_campaign(connection, batch_ids=[batch_id])
    lifecycle.start_campaign(engine, first)
    start = database_now(connection) + HOUR
    second = make_campaign(connection, batch_ids=[batch_id], start_type="scheduled", scheduled_start_at=start)
    lifecycle.start_campaign(engine, second)
    pass_time(engine, HOUR)
    assert lifecycle.start_due_campaigns(engine) == []
    waiting = campaign_row(engine, second)
    assert waiting["status"] == "scheduled"
    assert "is in use by campaign" in waiting["failure_reason"]
    lifecycle.cancel_campaign(engine, first)
    assert lifecycle.start_due_campaigns(engine) == [second]
    assert campaign_row(engine, second)["failure_reason"] is None


def test_scheduled_campaign_can_be_cancelled(engine: sa.Engine, connection: sa.Connection) -> None:
    start = database_now(connection) + HOUR
    campaign_id = make_campaign(connection, 2, start_type="scheduled", scheduled_start_at=start)
    lifecycle.start_campaign(engine, campaign_id)
    assert lifecycle.cancel_campaign(engine, campaign_id).status == "cancelled"
    pass_time(engine, HOUR)
    assert lifecycle.start_due_campaigns(engine) == []


# Pause and resume


def test_pause_cancels_pending_emails_and_counts_those_in_flight(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = make_campaign(connection, 3)
    lifecycle.start_campaign(engine, campaign_id)
    connection.execute(
        sa.text("""
            UPDATE scheduled_emails SET status = 'sending', claim_token = gen_random_uuid(), send_started_at = now(),
                                        lease_until = now() + interval '1 minute'
            WHERE id = (SELECT min(id) FROM scheduled_emails)
        """)
    )
    connection.commit()
    paused = lifecycle.pause_campaign(engine, campaign_id)
    assert (paused.status, paused.emails_cancelled, paused.emails_in_flight) == ("paused", 2, 1)
    assert statuses(engine, campaign_id) == {"cancelled": 2, "sending": 1}
    assert {row["reason"] for row in rows_of(engine, campaign_id)} == {"paused", None}


def test_resume_moves_the_rows_of_the_pause_by_its_length(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = make_campaign(connection, 2, [NO_DELAY, DAY])
    lifecycle.start_campaign(engine, campaign_id)
    lifecycle.pause_campaign(engine, campaign_id)
    before = {row["id"]: row["scheduled_for"] for row in rows_of(engine, campaign_id)}
    pass_time(engine, HOUR)
    resumed = lifecycle.resume_campaign(engine, campaign_id)
    assert (resumed.status, resumed.emails_rescheduled) == ("running", 4)
    assert 3600 <= resumed.shifted_by_seconds < 3630
    campaign = campaign_row(engine, campaign_id)
    assert campaign["resumed_at"] - campaign["paused_at"] == dt.timedelta(seconds=resumed.shifted_by_seconds)
    for row in rows_of(engine, campaign_id):
        assert row["status"] == "pending"
        # pass_time had moved the row an hour back.
        assert row["scheduled_for"] - before[row["id"]] + HOUR == dt.timedelta(seconds=resumed.shifted_by_seconds)


def test_resume_touches_only_the_rows_of_the_pause(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = make_campaign(connection, 3)
    lifecycle.start_campaign(engine, campaign_id)
    first, second, _ = (row["id"] for row in rows_of(engine, campaign_id))
    for row_id, values in (
        (first, {"status": "cancelled", "reason": "campaign_cancelled"}),
        (second, {"status": "skipped"}),
    ):
        connection.execute(
            sa.update(scheduled_emails).where(scheduled_emails.c.id == row_id).values(**{"reason": "late", **values})
        )
    connection.commit()
    lifecycle.pause_campaign(engine, campaign_id)
    assert lifecycle.resume_campaign(engine, campaign_id).emails_rescheduled == 1
    assert statuses(engine, campaign_id) == {"cancelled": 1, "skipped": 1, "pending": 1}


def test_three_resumes_at_once_shift_once(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = make_campaign(connection, 20)
    lifecycle.start_campaign(engine, campaign_id)
    due = rows_of(engine, campaign_id)[0]["scheduled_for"]
    lifecycle.pause_campaign(engine, campaign_id)
    pass_time(engine, HOUR)
    results = at_once(*[lambda: lifecycle.resume_campaign(engine, campaign_id)] * 3)
    (resumed,) = (result for result in results if not isinstance(result, Exception))
    assert [type(result) for result in results if result is not resumed] == [IllegalTransition] * 2
    for row in rows_of(engine, campaign_id):
        assert row["scheduled_for"] - due + HOUR == dt.timedelta(seconds=resumed.shifted_by_seconds)


def test_three_pauses_at_once_pause_once(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = make_campaign(connection, 5)
    lifecycle.start_campaign(engine, campaign_id)
    results = at_once(*[lambda: lifecycle.pause_campaign(engine, campaign_id)] * 3)
    assert sum(isinstance(result, IllegalTransition) for result in results) == 2
    assert statuses(engine, campaign_id) == {"cancelled": 5}


# Cancel, complete, and what is not allowed


@pytest.mark.parametrize("paused", [False, True])
def test_cancelled_campaign_has_nothing_pending(engine: sa.Engine, connection: sa.Connection, paused: bool) -> None:
    campaign_id = make_campaign(connection, 3, [NO_DELAY, DAY])
    lifecycle.start_campaign(engine, campaign_id)
    if paused:
        lifecycle.pause_campaign(engine, campaign_id)
    cancelled = lifecycle.cancel_campaign(engine, campaign_id)
    assert (cancelled.status, cancelled.emails_cancelled) == ("cancelled", 0 if paused else 6)
    assert statuses(engine, campaign_id) == {"cancelled": 6}
    for action in (lifecycle.resume_campaign, lifecycle.start_campaign):
        with pytest.raises(IllegalTransition):
            action(engine, campaign_id)


@pytest.mark.parametrize("open_status", ["pending", "sending"])
def test_campaign_with_an_open_row_does_not_complete(
    engine: sa.Engine, connection: sa.Connection, open_status: str
) -> None:
    campaign_id = make_campaign(connection, 2)
    lifecycle.start_campaign(engine, campaign_id)
    set_rows(connection, campaign_id, status="skipped", reason="late")
    values: dict[str, Any] = {"status": open_status, "reason": None}
    if open_status == "sending":
        values |= {"claim_token": sa.func.gen_random_uuid(), "lease_until": sa.func.now()}
    first = rows_of(engine, campaign_id)[0]["id"]
    connection.execute(sa.update(scheduled_emails).where(scheduled_emails.c.id == first).values(**values))
    connection.commit()
    assert not completion.mark_campaign_complete(engine, campaign_id)
    assert completion.complete_finished_campaigns(engine) == []
    assert campaign_row(engine, campaign_id)["status"] == "running"


def test_completion_that_a_crash_left_out_is_made_up_for(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = make_campaign(connection, 2)
    lifecycle.start_campaign(engine, campaign_id)
    set_rows(connection, campaign_id, status="skipped", reason="late")
    assert completion.complete_finished_campaigns(engine) == [campaign_id]
    campaign = campaign_row(engine, campaign_id)
    assert campaign["status"] == "completed"
    assert campaign["completed_at"] is not None


def test_completion_that_waited_sees_the_row_that_was_added_meanwhile(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    campaign_id = make_campaign(connection, 2)
    lifecycle.start_campaign(engine, campaign_id)
    set_rows(connection, campaign_id, status="skipped", reason="late")
    row_id = rows_of(engine, campaign_id)[0]["id"]
    with engine.connect() as other, ThreadPoolExecutor(1) as pool:
        other.execute(sa.select(campaigns.c.id).where(campaigns.c.id == campaign_id).with_for_update())
        completing = pool.submit(completion.mark_campaign_complete, engine, campaign_id)
        wait_for_waiting_sessions(connection, 1)
        other.execute(
            sa.update(scheduled_emails).where(scheduled_emails.c.id == row_id).values(status="pending", reason=None)
        )
        other.commit()
        assert completing.result() is False
    assert campaign_row(engine, campaign_id)["status"] == "running"


ACTIONS: dict[str, Callable[[sa.Engine, Any], object]] = {
    "start": lifecycle.start_campaign,
    "unschedule": lifecycle.unschedule_campaign,
    "pause": lifecycle.pause_campaign,
    "resume": lifecycle.resume_campaign,
    "cancel": lifecycle.cancel_campaign,
}


@pytest.mark.parametrize("action", ACTIONS)
def test_illegal_transition_names_the_current_status(engine: sa.Engine, connection: sa.Connection, action: str) -> None:
    campaign_id = make_campaign(connection, 1)
    every = {"draft", "running", "paused", "completed", "cancelled", "failed", "archived"}
    for status in sorted(every - TRANSITIONS[action][0]):
        connection.execute(sa.update(campaigns).values(status=status))
        connection.commit()
        with pytest.raises(IllegalTransition) as caught:
            ACTIONS[action](engine, campaign_id)
        assert caught.value.data["status"] == status
        assert status in caught.value.detail


@pytest.mark.parametrize("action", ACTIONS)
def test_unknown_campaign_is_not_found(engine: sa.Engine, action: str) -> None:
    with pytest.raises(NotFound):
        ACTIONS[action](engine, "00000000-0000-0000-0000-000000000000")


def test_every_change_is_in_the_audit_log(engine: sa.Engine, connection: sa.Connection) -> None:
    start = database_now(connection) + HOUR
    campaign_id = make_campaign(connection, 1, start_type="scheduled", scheduled_start_at=start)
    lifecycle.start_campaign(engine, campaign_id, actor="ann")
    lifecycle.unschedule_campaign(engine, campaign_id, actor="ann")
    pass_time(engine, HOUR)
    for action in ("start", "pause", "resume", "cancel"):
        ACTIONS[action](engine, campaign_id, actor="ann")  # type: ignore[call-arg]
    entries = connection.execute(sa.text("SELECT actor, action, entity_id FROM audit_log ORDER BY id")).all()
    done = ("schedule", "unschedule", "start", "pause", "resume", "cancel")
    assert entries == [("ann", f"campaign.{action}", str(campaign_id)) for action in done]


# One email for one lead


def make_lead(connection: sa.Connection, address: str = "bob@example.com") -> Any:
    make_batch(connection, [address])
    lead_id = connection.scalar(sa.select(leads.c.id).where(leads.c.email == address))
    connection.commit()
    return lead_id


def test_email_for_one_lead_is_added_to_a_running_campaign(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = make_campaign(connection, 1)
    lifecycle.start_campaign(engine, campaign_id)
    lead_id, template_id = make_lead(connection), campaign_row(engine, campaign_id)["email_template_id"]
    with engine.begin() as other:
        row_id = schedule_emails.schedule_email_for_lead(other, campaign_id, lead_id, template_id, DAY)
    (row,) = (row for row in rows_of(engine, campaign_id) if row["id"] == row_id)
    assert (row["lead_id"], row["status"]) == (lead_id, "pending")
    campaign = campaign_row(engine, campaign_id)
    assert (campaign["emails_scheduled_count"], campaign["total_leads_targeted"]) == (2, 2)
    with pytest.raises(Conflict), engine.begin() as other:
        schedule_emails.schedule_email_for_lead(other, campaign_id, lead_id, template_id, DAY)


@pytest.mark.parametrize("status", sorted(set(CampaignStatus) - {CampaignStatus.RUNNING}))
def test_no_email_can_be_added_to_a_campaign_that_is_not_running(
    engine: sa.Engine, connection: sa.Connection, status: str
) -> None:
    campaign_id = make_campaign(connection, 1, start_type="scheduled", scheduled_start_at=database_now(connection))
    lead_id, template_id = make_lead(connection), campaign_row(engine, campaign_id)["email_template_id"]
    connection.execute(sa.update(campaigns).values(status=status))
    connection.commit()
    with pytest.raises(Conflict), engine.begin() as other:
        schedule_emails.schedule_email_for_lead(other, campaign_id, lead_id, template_id, DAY)
    assert rows_of(engine, campaign_id) == []


def test_email_added_while_the_campaign_completes_keeps_it_open_or_is_refused(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    campaign_id = make_campaign(connection, 1)
    lifecycle.start_campaign(engine, campaign_id)
    set_rows(connection, campaign_id, status="skipped", reason="late")
    lead_id, template_id = make_lead(connection), campaign_row(engine, campaign_id)["email_template_id"]
    with engine.connect() as adding, ThreadPoolExecutor(1) as pool:
        schedule_emails.schedule_email_for_lead(adding, campaign_id, lead_id, template_id, DAY)
        completing = pool.submit(completion.mark_campaign_complete, engine, campaign_id)
        wait_for_waiting_sessions(connection, 1)
        adding.commit()
        assert completing.result() is False
    assert campaign_row(engine, campaign_id)["status"] == "running"


def test_scheduling_a_campaign_twice_is_a_conflict(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = make_campaign(connection, 3)
    with engine.begin() as other:
        assert schedule_emails.schedule_emails_for_campaign(other, campaign_id).emails == 3
    with pytest.raises(Conflict), engine.begin() as other:
        schedule_emails.schedule_emails_for_campaign(other, campaign_id)
    assert statuses(engine, campaign_id) == {"pending": 3}
