"""Background work survives crashes between its chunks and whatever happens to the campaign meanwhile."""

from __future__ import annotations

import datetime as dt
import uuid
from collections import Counter

import pytest
import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from sendledger.campaigns import background_work, completion, late_emails, lifecycle, schedule_emails
from sendledger.core.errors import NobodyToEmail
from sendledger.core.tables import leads, left_out_leads
from sendledger.sending.tick import Resources, send_due_emails
from testbed.campaigns import DAY, NO_DELAY, campaign_row, make_campaign, pass_time, rows_of, statuses

SECONDS = 60.0
HOUR = dt.timedelta(hours=1)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three rows are a bucket, four rows a chunk, and a call has no time for more than the first one."""
    monkeypatch.setattr(schedule_emails, "ROWS_PER_BUCKET", 3)
    monkeypatch.setattr(background_work, "ROWS_PER_CHUNK", 4)
    monkeypatch.setattr(background_work.cancel_scheduled_emails, "__defaults__", (4,))
    monkeypatch.setattr(lifecycle, "CALL_BUDGET", -1.0)


def work_once(engine: sa.Engine, campaign_id: uuid.UUID) -> int:
    with engine.begin() as connection:
        return background_work.work_once(connection, campaign_id)


def work_off(engine: sa.Engine, campaign_id: uuid.UUID) -> None:
    for _ in range(100):
        if not campaign_row(engine, campaign_id)["background_work"]:
            return
        work_once(engine, campaign_id)
    raise AssertionError(f"background work without end: {campaign_row(engine, campaign_id)['background_work']}")


def start_in_full(engine: sa.Engine, connection: sa.Connection, count: int = 10) -> uuid.UUID:
    campaign_id = make_campaign(connection, count)
    lifecycle.start_campaign(engine, campaign_id)
    work_off(engine, campaign_id)
    return campaign_id


def test_large_start_is_running_immediately_and_shows_the_work_left(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    campaign_id = make_campaign(connection, 10, [NO_DELAY, DAY])
    started = lifecycle.start_campaign(engine, campaign_id)
    assert started.status == "running"
    (work,) = started.background_work
    assert (work["kind"], work["bucket"], work["buckets"]) == ("schedule", 0, 7)
    assert started.emails_scheduled_count == len(rows_of(engine, campaign_id)) == 0
    work_off(engine, campaign_id)
    campaign = campaign_row(engine, campaign_id)
    assert (campaign["total_leads_targeted"], campaign["emails_scheduled_count"]) == (10, 20)
    rows = rows_of(engine, campaign_id)
    assert {row["scheduled_for"] for row in rows} == {
        campaign["actual_started_at"] + delay for delay in (NO_DELAY, DAY)
    }


def test_half_scheduled_campaign_neither_sends_nor_completes(
    engine: sa.Engine,
    connection: sa.Connection,
    resources: Resources,
    ses: SesSimulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    campaign_id = make_campaign(connection, 10)
    lifecycle.start_campaign(engine, campaign_id)
    monkeypatch.setattr(background_work, "campaigns_with_work", lambda connection: [])
    assert send_due_emails(resources, SECONDS).claimed == 0
    assert not completion.mark_campaign_complete(engine, campaign_id)
    assert ses.accepted() == []


def test_tick_finishes_the_background_work_and_then_sends(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = make_campaign(connection, 10)
    lifecycle.start_campaign(engine, campaign_id)
    assert send_due_emails(resources, SECONDS).sent == 10
    assert campaign_row(engine, campaign_id)["status"] == "completed"
    assert len(ses.accepted()) == 10


def test_crash_in_a_chunk_repeats_nothing_and_leaves_nothing_out(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = make_campaign(connection, 10)
    lifecycle.start_campaign(engine, campaign_id)
    before = statuses(engine, campaign_id)
    with engine.connect() as crashing:
        background_work.work_once(crashing, campaign_id)
        crashing.rollback()
    assert statuses(engine, campaign_id) == before
    work_off(engine, campaign_id)
    assert statuses(engine, campaign_id) == {"pending": 10}
    assert campaign_row(engine, campaign_id)["emails_scheduled_count"] == 10


def test_leads_left_out_are_counted_over_all_buckets(engine: sa.Engine, connection: sa.Connection) -> None:
    addresses = [f"lead{number}@example.com" for number in range(8)]
    campaign_id = make_campaign(connection, [*addresses, *(address.upper() for address in addresses), None, "no-at"])
    lifecycle.start_campaign(engine, campaign_id)
    work_off(engine, campaign_id)
    campaign = campaign_row(engine, campaign_id)
    assert campaign["leads_left_out"] == {"duplicate_address": 8, "no_address": 1, "invalid_address": 1}
    assert campaign["emails_scheduled_count"] == len(rows_of(engine, campaign_id)) == 8


def reasons(engine: sa.Engine, campaign_id: uuid.UUID) -> dict[uuid.UUID, str]:
    query = sa.select(left_out_leads.c.lead_id, left_out_leads.c.reason).filter_by(campaign_id=campaign_id)
    with engine.connect() as connection:
        found = connection.execute(query).all()
    assert len({lead_id for lead_id, _ in found}) == len(found)
    return dict(found)


def test_every_lead_has_its_emails_or_a_reason_after_a_crash_between_two_buckets(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    doubles = [f"LEAD{number}@example.com" for number in range(8)]
    campaign_id = make_campaign(connection, [*(address.lower() for address in doubles), *doubles, None, "no-at"])
    lifecycle.start_campaign(engine, campaign_id)
    before = reasons(engine, campaign_id)
    with engine.connect() as crashing:
        background_work.work_once(crashing, campaign_id)
        crashing.rollback()
    assert reasons(engine, campaign_id) == before
    work_off(engine, campaign_id)
    kept = reasons(engine, campaign_id)
    assert Counter(kept.values()) == campaign_row(engine, campaign_id)["leads_left_out"]
    audience = set(connection.scalars(sa.select(leads.c.id)))
    assert kept.keys() | {row["lead_id"] for row in rows_of(engine, campaign_id)} == audience


def test_left_out_lead_that_is_edited_between_two_buckets_keeps_its_first_reason_and_counts_once(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    campaign_id = make_campaign(connection, [*(f"lead{number} at" for number in range(20)), "ann@example.com"])
    lifecycle.start_campaign(engine, campaign_id)
    judged = reasons(engine, campaign_id)
    # Whatever buckets the new addresses fall into, some are in ones that are yet to come.
    for number, lead_id in enumerate(judged):
        connection.execute(sa.update(leads).where(leads.c.id == lead_id).values(email=f"new{number}@example.com"))
    connection.commit()
    work_off(engine, campaign_id)
    assert {lead_id: reasons(engine, campaign_id)[lead_id] for lead_id in judged} == judged
    assert campaign_row(engine, campaign_id)["leads_left_out"] == {"invalid_address": 20}
    assert len(rows_of(engine, campaign_id)) == 1


def test_pause_and_resume_leave_the_reasons_alone(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = make_campaign(connection, ["ann@example.com", None])
    lifecycle.start_campaign(engine, campaign_id)
    before = reasons(engine, campaign_id)
    lifecycle.pause_campaign(engine, campaign_id)
    lifecycle.resume_campaign(engine, campaign_id)
    work_off(engine, campaign_id)
    assert list(before.values()) == ["no_address"]
    assert reasons(engine, campaign_id) == before


def test_large_start_with_nobody_left_changes_nothing(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = make_campaign(connection, [None] * 10)
    with pytest.raises(NobodyToEmail):
        lifecycle.start_campaign(engine, campaign_id)
    assert campaign_row(engine, campaign_id)["status"] == "draft"
    assert reasons(engine, campaign_id) == {}


def test_address_that_is_edited_between_two_buckets_is_scheduled_once(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    campaign_id = make_campaign(connection, 10)
    lifecycle.start_campaign(engine, campaign_id)
    # Whatever buckets the new addresses fall into, some are in ones that are yet to come.
    for number, lead_id in enumerate(connection.scalars(sa.select(leads.c.id)).all()):
        connection.execute(sa.update(leads).where(leads.c.id == lead_id).values(email=f"new{number}@example.com"))
    connection.commit()
    work_off(engine, campaign_id)
    campaign, rows = campaign_row(engine, campaign_id), rows_of(engine, campaign_id)
    assert campaign["emails_scheduled_count"] == len(rows)
    assert len({row["lead_id"] for row in rows}) == len(rows)


def test_campaign_paused_while_it_is_scheduled_ends_with_every_row_paused(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    campaign_id = make_campaign(connection, 10)
    lifecycle.start_campaign(engine, campaign_id)
    paused = lifecycle.pause_campaign(engine, campaign_id)
    assert [work["kind"] for work in paused.background_work] == ["schedule", "pause"]
    work_off(engine, campaign_id)
    assert statuses(engine, campaign_id) == {"cancelled": 10}
    assert campaign_row(engine, campaign_id)["emails_scheduled_count"] == 10


def test_campaign_resumed_while_it_is_pausing_ends_with_every_row_pending_and_shifted(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    campaign_id = start_in_full(engine, connection)
    lifecycle.pause_campaign(engine, campaign_id)
    assert statuses(engine, campaign_id) == {"cancelled": 4, "pending": 6}
    pass_time(engine, HOUR)
    due = {row["id"]: row["scheduled_for"] for row in rows_of(engine, campaign_id)}
    resumed = lifecycle.resume_campaign(engine, campaign_id)
    work_off(engine, campaign_id)
    shift = dt.timedelta(seconds=resumed.shifted_by_seconds)
    assert {row["id"]: row["scheduled_for"] - shift for row in rows_of(engine, campaign_id)} == due
    assert statuses(engine, campaign_id) == {"pending": 10}


def test_paused_and_resumed_twice_within_the_background_work_shifts_by_both_pauses(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    campaign_id = start_in_full(engine, connection)
    shift = dt.timedelta(0)
    due = {row["id"]: row["scheduled_for"] for row in rows_of(engine, campaign_id)}
    for _ in range(2):
        lifecycle.pause_campaign(engine, campaign_id)
        pass_time(engine, HOUR)
        shift += dt.timedelta(seconds=lifecycle.resume_campaign(engine, campaign_id).shifted_by_seconds) - HOUR
    work_off(engine, campaign_id)
    assert {row["id"]: row["scheduled_for"] - shift for row in rows_of(engine, campaign_id)} == due


@pytest.mark.parametrize("action", ["send", "skip"])
def test_chunks_of_a_decision_in_a_pause_follow_each_other_and_leave_nothing_out(
    engine: sa.Engine, connection: sa.Connection, action: str
) -> None:
    """Every other lead is late."""
    campaign_id = start_in_full(engine, connection, 20)
    late = "scheduled_for = now() - interval '1 day'"
    connection.execute(sa.text(f"UPDATE scheduled_emails SET {late} WHERE mod(id, 2) = 0"))
    connection.execute(sa.text("UPDATE campaigns SET late_hold_until = now() - interval '6 hours'"))
    connection.commit()
    lifecycle.pause_campaign(engine, campaign_id)
    work_off(engine, campaign_id)

    late_emails.decide_late_emails(engine, campaign_id, action, "ann")
    behind = []
    while work := campaign_row(engine, campaign_id)["background_work"]:
        behind.append(work[0]["after_id"])
        work_once(engine, campaign_id)

    ids = sorted(row["id"] for row in rows_of(engine, campaign_id) if row["id"] % 2 == 0)
    assert behind == [ids[3], ids[7]]
    rows = {row["id"]: row for row in rows_of(engine, campaign_id)}
    if action == "skip":
        assert [id_ for id_, row in sorted(rows.items()) if row["reason"] == "late"] == ids
    else:
        paused_at = campaign_row(engine, campaign_id)["paused_at"]
        assert [id_ for id_, row in sorted(rows.items()) if row["scheduled_for"] == paused_at] == ids
        assert {row["reason"] for row in rows.values()} == {"paused"}


def test_chunks_of_failed_emails_follow_each_other_and_leave_nothing_out(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    """Half of them cannot be put back, and some have failed at the same time."""
    campaign_id = start_in_full(engine, connection, 20)
    fail = """
        UPDATE scheduled_emails SET status = 'failed', failed_at = now() - make_interval(hours => (id / 6)::integer),
               error_code = CASE mod(id, 2) WHEN 0 THEN 'bad_request' ELSE 'undefined_variable' END
    """
    connection.execute(sa.text(fail))
    connection.commit()
    asked = lifecycle.retry_failed_emails(engine, campaign_id, ["bad_request"], "ann")
    assert asked.emails == 10
    behind = []
    while work := campaign_row(engine, campaign_id)["background_work"]:
        behind.append(tuple(work[0]["after"]))
        work_once(engine, campaign_id)
    assert behind == sorted(set(behind))
    assert len(behind) == 2
    assert statuses(engine, campaign_id) == {"pending": 10, "failed": 10}


@pytest.mark.parametrize("busy_with", ["schedule", "pause", "resume"])
def test_cancel_during_any_background_work_leaves_nothing_open(
    engine: sa.Engine, connection: sa.Connection, busy_with: str
) -> None:
    if busy_with == "schedule":
        campaign_id = make_campaign(connection, 10)
        lifecycle.start_campaign(engine, campaign_id)
    else:
        campaign_id = start_in_full(engine, connection)
        lifecycle.pause_campaign(engine, campaign_id)
        if busy_with == "resume":
            work_off(engine, campaign_id)
            lifecycle.resume_campaign(engine, campaign_id)
    assert campaign_row(engine, campaign_id)["background_work"][0]["kind"] == busy_with
    lifecycle.cancel_campaign(engine, campaign_id)
    work_off(engine, campaign_id)
    assert set(statuses(engine, campaign_id)) <= {"cancelled"}
    campaign = campaign_row(engine, campaign_id)
    assert campaign["status"] == "cancelled"
    assert campaign["emails_scheduled_count"] == len(rows_of(engine, campaign_id))


def test_rows_of_a_cancelled_campaign_are_cancelled_by_the_tick(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = start_in_full(engine, connection, 20)
    lifecycle.cancel_campaign(engine, campaign_id)
    assert statuses(engine, campaign_id)["pending"] > 0
    send_due_emails(resources, SECONDS)
    assert statuses(engine, campaign_id) == {"cancelled": 20}
    assert ses.accepted() == []


def test_progress_is_visible_on_the_campaign(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = start_in_full(engine, connection, 20)
    lifecycle.pause_campaign(engine, campaign_id)
    done = campaign_row(engine, campaign_id)["background_work"][0]["rows_done"]
    assert done == statuses(engine, campaign_id)["cancelled"] > 0
    work_once(engine, campaign_id)
    assert campaign_row(engine, campaign_id)["background_work"][0]["rows_done"] == done + 4


def test_background_work_of_one_campaign_that_fails_stops_neither_the_others_nor_the_sending(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    broken = start_in_full(engine, connection, 3)
    large = make_campaign(connection, 10)
    lifecycle.start_campaign(engine, large)
    connection.execute(
        sa.text('UPDATE campaigns SET background_work = \'[{"kind": "unheard_of"}]\' WHERE id = :id'), {"id": broken}
    )
    connection.commit()
    assert send_due_emails(resources, SECONDS).sent == 10
    assert campaign_row(engine, large)["status"] == "completed"
    assert statuses(engine, broken) == {"pending": 3}
