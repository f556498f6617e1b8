"""What an evergreen campaign has accepted comes in, also if its intake ends before."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from sendledger.campaigns import background_work, completion, intake, lifecycle, schedule_emails
from sendledger.core.audit_log import SYSTEM
from sendledger.core.errors import Conflict
from sendledger.core.tables import campaigns, lead_batches, leads
from sendledger.preflight.diagnose import diagnose, note_tick
from sendledger.segments import segments
from sendledger.segments.conditions import of_json
from sendledger.sending.tick import Resources, send_due_emails
from testbed.campaigns import campaign_row, make_batch, rows_of
from testbed.invariants import wait_for
from tests.campaigns.test_intake import counts_are_right, evergreen, new_leads, waiting_for_locks

ENDINGS = pytest.mark.parametrize("ending", ["finish", "end_at"])


def end(engine: sa.Engine, connection: sa.Connection, campaign_id: uuid.UUID, ending: str) -> None:
    if ending == "finish":
        intake.finish_intake(engine, campaign_id, "ann")
    else:
        connection.execute(sa.update(campaigns).values(end_at=sa.func.now()))
        connection.commit()


def given_batch(
    engine: sa.Engine, connection: sa.Connection, campaign_id: uuid.UUID, status: str = "completed", **values: Any
) -> uuid.UUID:
    """An import of two leads for the campaign."""
    batch_id = make_batch(connection, ["a@example.com", "b@example.com"])
    connection.execute(sa.update(lead_batches).where(lead_batches.c.id == batch_id).values(status=status, **values))
    connection.commit()
    with engine.begin() as giving:
        intake.give_batch(giving, campaign_id, batch_id, "ann")
    return batch_id


def set_status(connection: sa.Connection, batch_id: uuid.UUID, status: str, **values: Any) -> None:
    connection.execute(sa.update(lead_batches).where(lead_batches.c.id == batch_id).values(status=status, **values))
    connection.commit()


@ENDINGS
def test_import_that_was_complete_before_the_end_comes_in(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ending: str
) -> None:
    campaign_id = evergreen(engine, connection)
    batch_id = given_batch(engine, connection, campaign_id)
    end(engine, connection, campaign_id, ending)

    assert completion.complete_finished_campaigns(engine) == []
    send_due_emails(resources, 30)

    campaign = campaign_row(engine, campaign_id)
    assert (campaign["total_leads_targeted"], campaign["batch_ids"][1:]) == (2, [batch_id])
    assert (campaign["background_work"], campaign["next_intake_at"]) == ([], None)
    audited = sa.text("SELECT actor, detail FROM audit_log WHERE action = 'campaign.leads_add' ORDER BY id")
    given = ("ann", {"lead_batch_id": str(batch_id)})
    assert connection.execute(audited).all() == [given, (SYSTEM, {"leads": 2, "emails": 6})]
    counts_are_right(engine, campaign_id)


@ENDINGS
@pytest.mark.parametrize("status", ["pending", "importing"])
def test_campaign_waits_for_an_import_that_is_under_way_at_the_end(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ending: str, status: str
) -> None:
    campaign_id = evergreen(engine, connection)
    batch_id = given_batch(engine, connection, campaign_id, status)
    end(engine, connection, campaign_id, ending)
    send_due_emails(resources, 30)
    assert (campaign_row(engine, campaign_id)["status"], rows_of(engine, campaign_id)) == ("running", [])
    with engine.begin() as asking:
        note_tick(asking, 1.0, None)
        assert diagnose(asking, campaign_id, "test").cause == "waits_for_leads"

    set_status(connection, batch_id, "completed")
    send_due_emails(resources, 30)

    assert len(rows_of(engine, campaign_id)) == 6


def test_campaign_does_not_wait_for_an_import_that_has_failed(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = evergreen(engine, connection)
    batch_id = given_batch(engine, connection, campaign_id, "importing")
    assert intake.finish_intake(engine, campaign_id, "ann") == "running"

    set_status(connection, batch_id, "failed", failure_reason="no file")

    assert completion.complete_finished_campaigns(engine) == [campaign_id]
    assert connection.scalar(sa.select(lead_batches.c.active_campaign_id).where(lead_batches.c.id == batch_id)) is None


def test_campaign_does_not_wait_for_a_file_that_is_only_checked(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = evergreen(engine, connection)
    given_batch(engine, connection, campaign_id, "pending", import_settings={"dry_run": True})

    assert intake.finish_intake(engine, campaign_id, "ann") == "completed"


def test_intake_that_has_begun_goes_on_to_its_end(
    engine: sa.Engine, connection: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign_id = evergreen(engine, connection, 1, intake={"every": "1 day"})
    monkeypatch.setattr(schedule_emails, "ROWS_PER_BUCKET", 9)
    (batch_id,) = campaign_row(engine, campaign_id)["batch_ids"]
    came = new_leads(connection, *(f"l{number}@example.com" for number in range(12)))
    connection.execute(sa.update(leads).where(leads.c.id.in_(came)).values(batch_id=batch_id))
    connection.execute(sa.update(campaigns).values(next_intake_at=sa.func.now()))
    connection.commit()
    with engine.begin() as working:
        intake.begin_due_intakes(working)
        background_work.work_once(working, campaign_id)

    assert intake.finish_intake(engine, campaign_id, "ann") == "running"
    background_work.work_until(engine, campaign_id, float("inf"))

    assert campaign_row(engine, campaign_id)["total_leads_targeted"] == 13
    counts_are_right(engine, campaign_id)


def test_import_brings_in_nobody_but_its_own_leads(
    engine: sa.Engine, connection: sa.Connection, resources: Resources
) -> None:
    of_spas = of_json({"kind": "field", "field": "industry", "values": ["spa"]})
    segment_id = segments.create(connection, "Spas", of_spas, "ann")["id"]
    campaign_id = evergreen(engine, connection, segment_ids=[segment_id], intake={"every": "1 day"})
    new_leads(connection, "spa@example.com")
    given_batch(engine, connection, campaign_id)

    send_due_emails(resources, 30)
    assert campaign_row(engine, campaign_id)["total_leads_targeted"] == 2
    connection.execute(sa.update(campaigns).values(next_intake_at=sa.func.now()))
    connection.commit()
    send_due_emails(resources, 30)

    assert campaign_row(engine, campaign_id)["total_leads_targeted"] == 3
    counts_are_right(engine, campaign_id)


def test_import_that_is_given_while_the_intake_is_being_ended_is_refused(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    campaign_id = evergreen(engine, connection)
    batch_id = make_batch(connection, ["a@example.com"])
    connection.commit()

    def give() -> None:
        with engine.begin() as giving:
            intake.give_batch(giving, campaign_id, batch_id, "ann")

    with ThreadPoolExecutor(1) as threads:
        connection.execute(sa.select(campaigns.c.id).with_for_update())
        giving = threads.submit(give)
        wait_for(lambda: waiting_for_locks(engine) == 1, "an import that waits for the campaign")
        connection.execute(sa.update(campaigns).values(intake_ended_at=sa.func.now()))
        connection.commit()
        with pytest.raises(Conflict, match="has ended"):
            giving.result()
    assert connection.scalar(sa.select(lead_batches.c.active_campaign_id).where(lead_batches.c.id == batch_id)) is None


def test_cancelled_campaign_takes_in_nothing_more(
    engine: sa.Engine, connection: sa.Connection, resources: Resources
) -> None:
    campaign_id = evergreen(engine, connection)
    batch_id = given_batch(engine, connection, campaign_id)
    lifecycle.cancel_campaign(engine, campaign_id)

    send_due_emails(resources, 30)

    assert rows_of(engine, campaign_id) == []
    assert connection.scalar(sa.select(lead_batches.c.active_campaign_id).where(lead_batches.c.id == batch_id)) is None
