"""Evergreen campaigns: who comes in later, from when the steps count, and when such a campaign ends."""

from __future__ import annotations

import datetime as dt
import uuid
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from sendledger.campaigns import background_work, completion, intake, lifecycle, schedule_emails
from sendledger.campaigns import campaigns as stored_campaigns
from sendledger.core.errors import Conflict, InvalidInput
from sendledger.core.tables import campaigns, leads, left_out_leads, scheduled_emails, sender_addresses, suppressions
from sendledger.leads import leads as stored_leads
from sendledger.ledger import claim_emails
from sendledger.policy import sending_schedules
from sendledger.sending.tick import Resources, send_due_emails
from testbed.campaigns import DAY, NO_DELAY, campaign_row, make_batch, make_campaign, pass_time, rows_of, statuses
from testbed.databases import working_as
from testbed.invariants import wait_for

HOUR = dt.timedelta(hours=1)
SECOND = dt.timedelta(seconds=1)
STEPS = [NO_DELAY, DAY, DAY]


def evergreen(
    engine: sa.Engine, connection: sa.Connection, addresses: Sequence[str | None] | int = 0, **values: Any
) -> uuid.UUID:
    """A running evergreen campaign of three steps."""
    campaign_id = make_campaign(connection, addresses, STEPS, **{"evergreen": True, **values})
    lifecycle.start_campaign(engine, campaign_id)
    return campaign_id


def new_leads(connection: sa.Connection, *addresses: str | None) -> list[uuid.UUID]:
    batch_id = make_batch(connection, addresses)
    of_batch = sa.select(leads.c.id).where(leads.c.batch_id == batch_id).order_by(leads.c.email)
    ids = list(connection.scalars(of_batch))
    connection.commit()
    return ids


def add(engine: sa.Engine, campaign_id: uuid.UUID, lead_ids: list[uuid.UUID]) -> list[str]:
    taken = intake.add_leads(engine, campaign_id, lead_ids, "ann")
    return [reason or outcome for outcome, reason in taken.outcomes]


def due(engine: sa.Engine, campaign_id: uuid.UUID) -> list[dt.timedelta]:
    """When the emails of the campaign are due, from now, to the second."""
    with engine.connect() as connection:
        now: dt.datetime = connection.execute(sa.select(sa.func.now())).scalar_one()
    ago = sorted(row["scheduled_for"] - now for row in rows_of(engine, campaign_id))
    return [dt.timedelta(seconds=round(each.total_seconds() / 10) * 10) for each in ago]


def counts_are_right(engine: sa.Engine, campaign_id: uuid.UUID) -> None:
    campaign, rows = campaign_row(engine, campaign_id), rows_of(engine, campaign_id)
    assert campaign["emails_scheduled_count"] == len(rows)
    assert campaign["total_leads_targeted"] == len({row["lead_id"] for row in rows})
    with engine.connect() as connection:
        reasons = sa.select(left_out_leads.c.reason).where(left_out_leads.c.campaign_id == campaign_id)
        assert Counter(connection.scalars(reasons)) == campaign["leads_left_out"]


def test_evergreen_campaign_starts_without_leads_and_does_not_complete(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    campaign_id = evergreen(engine, connection)
    assert completion.complete_finished_campaigns(engine) == []
    campaign = campaign_row(engine, campaign_id)
    assert (campaign["status"], campaign["idle_since"] is not None) == ("running", True)
    since = campaign["idle_since"]
    assert not completion.mark_campaign_complete(engine, campaign_id)
    assert campaign_row(engine, campaign_id)["idle_since"] == since


def test_steps_of_a_later_lead_count_from_when_it_came_in(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = evergreen(engine, connection, 1)
    pass_time(engine, 2 * HOUR)
    assert add(engine, campaign_id, new_leads(connection, "b@example.com")) == ["added"]
    first, later = [-2 * HOUR, DAY - 2 * HOUR, 2 * DAY - 2 * HOUR], [NO_DELAY, DAY, 2 * DAY]
    assert due(engine, campaign_id) == sorted(first + later)
    assert statuses(engine, campaign_id) == {"pending": 6}
    counts_are_right(engine, campaign_id)


def test_leads_are_left_out_with_the_reasons_of_a_start(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = evergreen(engine, connection, ["a@example.com"])
    connection.execute(sa.insert(suppressions).values(value="s@example.com", reason="manual"))
    given = new_leads(connection, "A@example.com", "b@example.com", "B@example.com", "nowhere", "s@example.com", None)
    outcomes = Counter(add(engine, campaign_id, [*given, uuid.uuid4(), given[1]]))
    assert outcomes == {
        "added": 1,
        "duplicate_address": 3,
        "invalid_address": 1,
        "suppressed": 1,
        "no_address": 1,
        "no_such_lead": 1,
    }
    assert campaign_row(engine, campaign_id)["leads_left_out"]["duplicate_address"] == 2
    counts_are_right(engine, campaign_id)


def test_lead_is_added_once_and_one_that_was_left_out_is_judged_again(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    campaign_id = evergreen(engine, connection)
    connection.execute(sa.insert(suppressions).values(value="b@example.com", reason="manual"))
    given = new_leads(connection, "a@example.com", "b@example.com")
    assert add(engine, campaign_id, given) == ["added", "suppressed"]
    assert add(engine, campaign_id, given) == ["already_there", "suppressed"]
    counts_are_right(engine, campaign_id)
    connection.execute(sa.update(suppressions).values(removed_at=sa.func.now()))
    connection.commit()
    assert add(engine, campaign_id, given) == ["already_there", "added"]
    assert len(rows_of(engine, campaign_id)) == 6
    counts_are_right(engine, campaign_id)


def test_lead_that_comes_into_a_paused_campaign_is_not_shifted_for_time_before(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    campaign_id = evergreen(engine, connection, 1)
    lifecycle.pause_campaign(engine, campaign_id)
    pass_time(engine, 5 * HOUR)
    assert add(engine, campaign_id, new_leads(connection, "b@example.com")) == ["added"]
    assert {(row["status"], row["reason"]) for row in rows_of(engine, campaign_id)} == {("cancelled", "paused")}
    pass_time(engine, 2 * HOUR)
    lifecycle.resume_campaign(engine, campaign_id)
    assert statuses(engine, campaign_id) == {"pending": 6}
    assert due(engine, campaign_id) == [NO_DELAY, NO_DELAY, DAY, DAY, 2 * DAY, 2 * DAY]
    counts_are_right(engine, campaign_id)


@pytest.mark.parametrize("ending", ["finish", "end_at"])
def test_campaign_completes_after_the_end_of_its_intake_when_its_emails_are_done(
    engine: sa.Engine, connection: sa.Connection, ending: str
) -> None:
    campaign_id = evergreen(engine, connection, 1)
    if ending == "finish":
        assert intake.finish_intake(engine, campaign_id, "ann") == "running"
    else:
        connection.execute(sa.update(campaigns).values(end_at=sa.func.now()))
        connection.commit()
    with pytest.raises(Conflict, match="has ended"):
        add(engine, campaign_id, new_leads(connection, "b@example.com"))
    with pytest.raises(Conflict, match="takes in no leads"):
        intake.finish_intake(engine, campaign_id, "ann")
    assert completion.complete_finished_campaigns(engine) == []
    connection.execute(sa.update(scheduled_emails).values(status="skipped", reason="late"))
    connection.commit()
    assert completion.complete_finished_campaigns(engine) == [campaign_id]
    assert campaign_row(engine, campaign_id)["idle_since"] is None


def test_finish_of_an_idle_campaign_completes_it_at_once(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = evergreen(engine, connection)
    assert intake.finish_intake(engine, campaign_id, "ann") == "completed"


def test_only_an_evergreen_campaign_under_way_takes_in_leads(engine: sa.Engine, connection: sa.Connection) -> None:
    given = new_leads(connection, "b@example.com")
    plain = make_campaign(connection, 1)
    lifecycle.start_campaign(engine, plain)
    with pytest.raises(Conflict, match="not evergreen"):
        add(engine, plain, given)
    draft = make_campaign(connection, 0, evergreen=True)
    with pytest.raises(Conflict, match="draft"):
        add(engine, draft, given)
    cancelled = evergreen(engine, connection)
    lifecycle.cancel_campaign(engine, cancelled)
    with pytest.raises(Conflict, match="cancelled"):
        add(engine, cancelled, given)
    assert len(rows_of(engine, plain)) == 1


def test_nobody_comes_in_while_the_rows_of_an_earlier_resume_are_changed(
    engine: sa.Engine, connection: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign_id = evergreen(engine, connection, 1)
    lifecycle.pause_campaign(engine, campaign_id)
    pass_time(engine, 5 * HOUR)
    with monkeypatch.context() as patched:
        patched.setattr(background_work, "ROWS_PER_CHUNK", 1)
        patched.setattr(lifecycle, "CALL_BUDGET", -1.0)
        lifecycle.resume_campaign(engine, campaign_id)
    lifecycle.pause_campaign(engine, campaign_id, rows_at_once=False)
    given = new_leads(connection, "b@example.com")
    with pytest.raises(Conflict, match="still being scheduled or changed"):
        add(engine, campaign_id, given)

    background_work.work_until(engine, campaign_id, float("inf"))
    assert add(engine, campaign_id, given) == ["added"]
    lifecycle.resume_campaign(engine, campaign_id)

    assert due(engine, campaign_id) == [NO_DELAY, NO_DELAY, DAY, DAY, 2 * DAY, 2 * DAY]


def test_leads_with_more_emails_than_one_transaction_writes_are_refused(
    engine: sa.Engine, connection: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign_id = evergreen(engine, connection)
    given = new_leads(connection, "a@example.com", "b@example.com", "c@example.com")
    monkeypatch.setattr(schedule_emails, "ROWS_PER_BUCKET", 8)
    with pytest.raises(InvalidInput) as refused:
        add(engine, campaign_id, given)
    (error,) = refused.value.errors
    assert (error.field, error.message) == (
        "lead_ids",
        "must be at most 2 leads at once in this campaign: each gets 3 emails",
    )
    assert add(engine, campaign_id, given[:2]) == ["added", "added"]


@pytest.fixture
def tick(resources: Resources) -> Any:
    return lambda: send_due_emails(resources, 30)


def test_intake_takes_in_what_the_batches_have_got_at_its_times_only(
    engine: sa.Engine, connection: sa.Connection, tick: Any
) -> None:
    campaign_id = evergreen(engine, connection, 1, intake={"every": "1 day"})
    (batch_id,) = campaign_row(engine, campaign_id)["batch_ids"]
    connection.execute(
        sa.update(leads).where(leads.c.id.in_(new_leads(connection, "b@x.com"))).values(batch_id=batch_id)
    )
    connection.commit()
    tick()
    assert len(rows_of(engine, campaign_id)) == 3
    _make_due(connection, campaign_id)
    tick()
    assert len(rows_of(engine, campaign_id)) == 6
    assert statuses(engine, campaign_id) == {"sent": 2, "pending": 4}
    counts_are_right(engine, campaign_id)
    campaign = campaign_row(engine, campaign_id)
    assert campaign["background_work"] == []
    assert campaign["next_intake_at"] > dt.datetime.now(dt.UTC) + 23 * HOUR


def test_paused_campaign_takes_in_nobody_by_itself(engine: sa.Engine, connection: sa.Connection, tick: Any) -> None:
    campaign_id = evergreen(engine, connection, 1, intake={"every": "1 day"})
    lifecycle.pause_campaign(engine, campaign_id)
    _make_due(connection, campaign_id)
    tick()
    assert campaign_row(engine, campaign_id)["background_work"] == []


def _make_due(connection: sa.Connection, campaign_id: uuid.UUID) -> None:
    connection.execute(
        sa.update(campaigns).where(campaigns.c.id == campaign_id).values(next_intake_at=sa.func.now() - SECOND)
    )
    connection.commit()


def test_large_intake_goes_bucket_by_bucket_as_the_sender_and_leaves_duplicates_out(
    engine: sa.Engine, connection: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign_id = evergreen(engine, connection, ["l1@example.com"], intake={"every": "1 hour"})
    monkeypatch.setattr(schedule_emails, "ROWS_PER_BUCKET", 9)
    (batch_id,) = campaign_row(engine, campaign_id)["batch_ids"]
    came = new_leads(connection, *(f"L{number}@example.com" for number in range(12)), "nowhere", "l5@example.com")
    connection.execute(sa.update(leads).where(leads.c.id.in_(came)).values(batch_id=batch_id))
    _make_due(connection, campaign_id)
    with working_as("sender", engine) as sender:
        with sender.begin() as working:
            assert intake.begin_due_intakes(working) == 1
        background_work_done = background_work.work_until(sender, campaign_id, float("inf"))
    assert background_work_done == 33
    campaign = campaign_row(engine, campaign_id)
    assert (campaign["total_leads_targeted"], campaign["background_work"]) == (12, [])
    assert campaign["leads_left_out"] == {"duplicate_address": 2, "invalid_address": 1}
    counts_are_right(engine, campaign_id)


@pytest.mark.parametrize("by_address", [False, True])
def test_eight_intakes_of_the_same_addresses_at_once_give_each_one_row_for_each_step(
    by_address: bool, engine: sa.Engine, connection: sa.Connection
) -> None:
    """All eight have begun before the first one can go on: they wait for the campaign, which is locked meanwhile."""
    campaign_id = evergreen(engine, connection)
    addresses = [f"l{number}@example.com" for number in range(40)]
    ids = new_leads(connection, *addresses) if not by_address else []

    def come_in(api: sa.Engine, number: int) -> list[str]:
        in_turn = slice(None, None, 1 if number % 2 else -1)
        given = ids[in_turn]
        if by_address:
            # As the route does it, in a transaction before the intake.
            with api.begin() as storing:
                rows = [stored_leads.columns_of({"email": address}, {}) for address in addresses[in_turn]]
                given = stored_leads.find_or_create(storing, rows)
        return add(api, campaign_id, given)

    with working_as("api", engine, pool_size=8) as api, ThreadPoolExecutor(8) as threads:
        connection.execute(sa.select(campaigns.c.id).with_for_update())
        runs = [threads.submit(come_in, api, number) for number in range(8)]
        wait_for(lambda: waiting_for_locks(engine) == 8, "eight intakes that wait")
        connection.rollback()
        outcomes = Counter(outcome for run in runs for outcome in run.result())
    assert outcomes == {"added": 40, "already_there": 280}
    assert list(Counter(row["lead_id"] for row in rows_of(engine, campaign_id)).values()) == [3] * 40
    assert connection.scalar(sa.select(sa.func.count()).select_from(leads)) == 40
    counts_are_right(engine, campaign_id)


def waiting_for_locks(engine: sa.Engine) -> int:
    with engine.connect() as looking:
        waiting = sa.text(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return int(looking.scalar(waiting) or 0)


def test_later_leads_go_on_taking_turns_at_the_senders(engine: sa.Engine, connection: sa.Connection) -> None:
    senders = [
        connection.execute(
            sa.insert(sender_addresses)
            .values(from_address=f"s{number}@example.com", address=f"s{number}@example.com", daily_cap=100)
            .returning(sender_addresses.c.id)
        ).scalar_one()
        for number in range(2)
    ]
    campaign_id = evergreen(engine, connection, 3, sender_ids=senders)
    for number in range(5):
        add(engine, campaign_id, new_leads(connection, f"later{number}@example.com"))
    lanes = Counter(row["lane"] for row in rows_of(engine, campaign_id) if row["workflow_step_number"] == 1)
    assert sorted(lanes.values()) == [4, 4]
    assert 0 not in lanes


def test_intake_that_is_interrupted_in_a_bucket_repeats_and_loses_nothing(
    engine: sa.Engine, connection: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign_id = evergreen(engine, connection, ["l0@example.com"], intake={"every": "1 hour"})
    monkeypatch.setattr(schedule_emails, "ROWS_PER_BUCKET", 9)
    (batch_id,) = campaign_row(engine, campaign_id)["batch_ids"]
    came = new_leads(connection, *(f"l{number}@example.com" for number in range(1, 9)), "nowhere")
    connection.execute(sa.update(leads).where(leads.c.id.in_(came)).values(batch_id=batch_id))
    _make_due(connection, campaign_id)
    with engine.begin() as beginning:
        intake.begin_due_intakes(beginning)
    while campaign_row(engine, campaign_id)["background_work"]:
        with engine.connect() as killed:
            background_work.work_once(killed, campaign_id)
            killed.rollback()
        # A request meanwhile takes what it names, and the rest of the intake leaves that out.
        assert len(add(engine, campaign_id, came[:1])) == 1
        with engine.begin() as working:
            background_work.work_once(working, campaign_id)
    assert Counter(row["lead_id"] for row in rows_of(engine, campaign_id)).most_common(1)[0][1] == 3
    assert campaign_row(engine, campaign_id)["total_leads_targeted"] == 9
    assert campaign_row(engine, campaign_id)["leads_left_out"] == {"invalid_address": 1}
    counts_are_right(engine, campaign_id)


@pytest.mark.parametrize("has_schedule", [False, True])
def test_lead_that_comes_in_while_the_cap_of_new_leads_is_lifted_is_claimed_after_it_is_set_again(
    has_schedule: bool, engine: sa.Engine, connection: sa.Connection
) -> None:
    values: dict[str, Any] = {"new_leads_per_day": 5}
    if has_schedule:
        always = {day: [["00:00", "24:00"]] for day in ("mon", "tue", "wed", "thu", "fri", "sat", "sun")}
        schedule = {"name": "Always", "time_zone": "UTC", "zone_of": "lead", "hours": always}
        values["sending_schedule_id"] = sending_schedules.create(connection, schedule)["id"]
    campaign_id = evergreen(engine, connection, 1, **values)
    stored_campaigns.update(connection, campaign_id, {"new_leads_per_day": None})
    connection.commit()
    (lead,) = new_leads(connection, "bob@example.com")
    assert add(engine, campaign_id, [lead]) == ["added"]
    stored_campaigns.update(connection, campaign_id, {"new_leads_per_day": 5})
    connection.commit()
    with engine.begin() as other:
        claimed = claim_emails.claim(other, 10, uuid.uuid4())
    assert {(email.lead or {})["lead_id"] for email in claimed} >= {lead}
