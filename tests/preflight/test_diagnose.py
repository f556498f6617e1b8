"""The one thing that holds a campaign's emails back."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import pytest
import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from sendledger.campaigns import campaigns as stored_campaigns
from sendledger.campaigns import late_emails, lifecycle, schedule_emails
from sendledger.core.errors import InvalidInput, NotFound
from sendledger.core.tables import campaigns
from sendledger.ledger import sender_state
from sendledger.preflight import diagnose
from sendledger.preflight.diagnose import Diagnosis
from sendledger.sending import tick
from sendledger.sending.tick import Resources
from testbed.campaigns import DAY, make_batch, make_campaign, make_workflow, pass_time


def _diagnose(engine: sa.Engine, campaign_id: uuid.UUID, deployment_id: str = "test") -> Diagnosis:
    with engine.connect() as connection:
        return diagnose.diagnose(connection, campaign_id, deployment_id)


@pytest.fixture
def running(engine: sa.Engine, connection: sa.Connection, resources: Resources) -> uuid.UUID:
    """A running campaign with a due email, and a sender that ticked just before it was started."""
    tick.send_due_emails(resources, 60)
    campaign_id = make_campaign(connection, 1)
    lifecycle.start_campaign(engine, campaign_id)
    return campaign_id


def test_due_emails_of_a_running_campaign_are_held_back_by_nothing(engine: sa.Engine, running: uuid.UUID) -> None:
    found = _diagnose(engine, running)
    assert (found.cause, found.detail["due"]) == (None, 1)
    assert found.next_send_at is not None


def test_a_draft_says_that_it_is_one(engine: sa.Engine, connection: sa.Connection) -> None:
    found = _diagnose(engine, make_campaign(connection, 1))
    assert (found.cause, found.next_send_at) == ("campaign_draft", None)


def test_evergreen_campaign_without_open_emails_waits_for_leads(
    engine: sa.Engine, connection: sa.Connection, resources: Resources
) -> None:
    campaign_id = make_campaign(connection, 1, evergreen=True)
    lifecycle.start_campaign(engine, campaign_id)
    tick.send_due_emails(resources, 60)
    found = _diagnose(engine, campaign_id)
    assert (found.cause, found.next_send_at, found.detail) == ("waits_for_leads", None, {"sent": 1})


def test_a_due_start_that_waits_for_a_lead_batch_names_the_batch_and_its_holder(
    engine: sa.Engine, connection: sa.Connection, resources: Resources
) -> None:
    batch_id = make_batch(connection, ["ann@example.com"])
    holder = make_campaign(connection, batch_ids=[batch_id])
    lifecycle.start_campaign(engine, holder)
    start = connection.execute(sa.select(sa.func.now())).scalar_one() + DAY
    waiting = make_campaign(connection, batch_ids=[batch_id], start_type="scheduled", scheduled_start_at=start)
    lifecycle.start_campaign(engine, waiting)
    pass_time(engine, DAY)
    with engine.begin() as ticking:
        late_emails.hold_after_outage(ticking, 2 * DAY)
    found = _diagnose(engine, waiting)
    assert (found.cause, found.next_send_at) == ("batch_held", None)
    assert found.detail == {"lead_batch_id": str(batch_id), "campaign_id": str(holder)}
    assert str(batch_id) in found.message
    lifecycle.cancel_campaign(engine, holder)
    free = _diagnose(engine, waiting)
    assert (free.cause, "next tick" in free.message) == ("campaign_scheduled", True)
    assert free.next_send_at is not None


def test_a_paused_campaign_says_why_it_was_paused(engine: sa.Engine, running: uuid.UUID) -> None:
    lifecycle.pause_campaign(engine, running, reason="too many bounces")
    found = _diagnose(engine, running)
    assert (found.cause, found.detail) == ("campaign_paused", {"reason": "too many bounces"})


@pytest.mark.parametrize("content", ["workflow_id", "email_template_id"])
def test_a_draft_says_what_its_chosen_content_lacks(engine: sa.Engine, connection: sa.Connection, content: str) -> None:
    """The old application makes workflows without steps, and deletes templates that campaigns name."""
    chosen = {"email_template_id": uuid.uuid4(), "workflow_id": make_workflow(connection, [])}
    values: dict[str, Any] = {"email_template_id": None, content: chosen[content]}
    draft = make_campaign(connection, 0, batch_ids=[], **values)
    lacks = {
        "workflow_id": "the workflow has no steps",
        "email_template_id": f"there is no email template with the id {chosen['email_template_id']}",
    }[content]
    found = _diagnose(engine, draft)
    assert found.message == f"The campaign is a draft. It still needs leads and content: {lacks}."
    assert found.detail == {"missing": ["batch_ids", "segment_ids", "lead_ids", content]}
    with pytest.raises(InvalidInput, match=lacks) as refused:
        lifecycle.start_campaign(engine, draft)
    assert [error.field for error in refused.value.errors] == [content, "batch_ids", "segment_ids", "lead_ids"]
    scheduled = {"status": "scheduled", "start_type": "scheduled", "scheduled_start_at": sa.func.now()}
    connection.execute(sa.update(campaigns).where(campaigns.c.id == draft).values(scheduled))
    with pytest.raises(InvalidInput) as kept:
        stored_campaigns.update(connection, draft, {"evergreen": True})
    assert [(error.field, error.message) for error in kept.value.errors] == [(content, lacks)]
    put_off = {"scheduled_start_at": dt.datetime.now(dt.UTC) + DAY}
    assert stored_campaigns.update(connection, draft, put_off)["status"] == "scheduled"


def test_a_sender_that_does_not_run_is_the_cause(engine: sa.Engine, running: uuid.UUID) -> None:
    pass_time(engine, dt.timedelta(minutes=6))
    assert _diagnose(engine, running).cause == "no_tick"


def test_a_large_campaign_that_no_tick_prepares_is_diagnosed(
    engine: sa.Engine, connection: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule_emails, "ROWS_PER_BUCKET", 2)
    campaign_id = make_campaign(connection, 5)
    lifecycle.start_campaign(engine, campaign_id)
    found = _diagnose(engine, campaign_id)
    assert (found.cause, found.detail, found.next_send_at) == (
        "no_tick",
        {"last_tick_at": None, "kind": "schedule"},
        None,
    )
    assert "does not run" in found.message
    assert "not prepared" in found.message
    with engine.begin() as connection:
        diagnose.note_tick(connection, 1.0, None)
    assert _diagnose(engine, campaign_id).cause == "rows_being_written"


def test_a_stop_of_all_sending_is_the_cause_until_it_ends(engine: sa.Engine, running: uuid.UUID) -> None:
    with engine.begin() as connection:
        sender_state.stop(connection, "daily_quota", "The quota is used up.", 600)
    found = _diagnose(engine, running)
    assert (found.cause, found.detail) == ("sender_stopped", {"stop_code": "daily_quota"})
    assert found.next_send_at is not None
    pass_time(engine, dt.timedelta(seconds=601))
    assert _diagnose(engine, running).cause == "no_tick"


def test_another_deployment_owning_the_database_is_the_cause(engine: sa.Engine, running: uuid.UUID) -> None:
    found = _diagnose(engine, running, "copy")
    assert (found.cause, found.detail, found.next_send_at) == ("other_deployment", {"owner": "test"}, None)


def test_what_ses_refused_to_the_last_tick_is_the_cause(engine: sa.Engine, running: uuid.UUID) -> None:
    with engine.begin() as connection:
        diagnose.note_tick(connection, 0.0, "account: Sending is switched off.")
    found = _diagnose(engine, running)
    assert (found.cause, found.detail) == ("ses_blocked", {"code": "account"})
    assert "switched off" in found.message


def test_what_ses_refuses_is_the_cause_for_as_long_as_the_sender_runs(
    engine: sa.Engine, running: uuid.UUID, resources: Resources, ses: SesSimulator
) -> None:
    ses.account.sending_enabled = False
    for _ in range(3):
        pass_time(engine, dt.timedelta(minutes=4))
        summary = tick.send_due_emails(resources, 60)
        with engine.begin() as connection:
            diagnose.note_tick(connection, summary.rate, summary.stopped)
    assert _diagnose(engine, running).cause == "ses_blocked"
    pass_time(engine, dt.timedelta(minutes=6))
    assert _diagnose(engine, running).cause == "no_tick"


def test_emails_held_after_an_outage_are_the_cause(engine: sa.Engine, running: uuid.UUID) -> None:
    pass_time(engine, DAY)
    with engine.begin() as connection:
        late_emails.hold_after_outage(connection, dt.timedelta(hours=1))
    found = _diagnose(engine, running)
    assert (found.cause, found.detail, found.next_send_at) == ("held_late", {"held": 1}, None)
    how = f"on the campaign's page in the console, or with POST /v1/campaigns/{running}/late-emails"
    assert how in found.message
    lifecycle.pause_campaign(engine, running)
    assert how in _diagnose(engine, running).message


def test_the_time_of_the_next_step_is_shown(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = make_campaign(connection, 1, delays=[dt.timedelta(0), DAY])
    lifecycle.start_campaign(engine, campaign_id)
    tick.send_due_emails(resources, 60)
    found = _diagnose(engine, campaign_id)
    assert found.cause == "not_due"
    assert found.next_send_at is not None
    assert found.next_send_at > dt.datetime.now(dt.UTC) + dt.timedelta(hours=23)


def test_a_campaign_with_all_leads_suppressed_is_diagnosed(engine: sa.Engine, running: uuid.UUID) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE scheduled_emails SET status = 'skipped', reason = 'suppressed'"))
    found = _diagnose(engine, running)
    assert (found.cause, found.detail) == ("nothing_left", {"suppressed": 1})


def test_there_is_no_diagnosis_of_a_campaign_that_does_not_exist(engine: sa.Engine) -> None:
    with pytest.raises(NotFound):
        _diagnose(engine, uuid.uuid4())


def test_the_oldest_due_email_is_measured_among_running_campaigns(engine: sa.Engine, running: uuid.UUID) -> None:
    pass_time(engine, dt.timedelta(minutes=20))
    with engine.connect() as connection:
        assert 1200 <= diagnose.oldest_due_seconds(connection) < 1300
    lifecycle.pause_campaign(engine, running)
    with engine.connect() as connection:
        assert diagnose.oldest_due_seconds(connection) == 0
