"""The old application goes on writing campaigns.status: what a person meant is obeyed, its own mistakes are not."""

from __future__ import annotations

import datetime as dt
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from sendledger.campaigns import lifecycle
from sendledger.core.tables import audit_log, campaign_steps, emails, lead_batches
from sendledger.sending.tick import Resources, send_due_emails
from testbed.campaigns import DAY, NO_DELAY, campaign_row, make_campaign, pass_time, rows_of, statuses
from testbed.databases import wait_until
from testbed.legacy_database import THREE_STEPS, OldApplication, adopt, old_application


def old_write(engine: sa.Engine, campaign_id: uuid.UUID, status: str) -> str:
    """The status that is left after the old application has written this one."""
    with old_application(engine) as connection:
        connection.execute(
            sa.text("UPDATE campaigns SET status = :status WHERE id = :id"), {"status": status, "id": campaign_id}
        )
    left: str = campaign_row(engine, campaign_id)["status"]
    return left


@pytest.fixture
def running(engine: sa.Engine, connection: sa.Connection) -> uuid.UUID:
    campaign_id = make_campaign(connection, 2, [NO_DELAY, DAY])
    lifecycle.start_campaign(engine, campaign_id)
    return campaign_id


@pytest.mark.parametrize("status", ["completed", "active", "draft"])
def test_running_campaign_keeps_running(
    engine: sa.Engine, running: uuid.UUID, resources: Resources, ses: SesSimulator, status: str
) -> None:
    assert old_write(engine, running, status) == "running"
    send_due_emails(resources, 60.0)
    pass_time(engine, DAY)
    send_due_emails(resources, 60.0)
    assert len(ses.accepted()) == 4
    assert campaign_row(engine, running)["status"] == "completed"


def test_pause_is_obeyed_at_once(
    engine: sa.Engine, running: uuid.UUID, resources: Resources, ses: SesSimulator
) -> None:
    assert old_write(engine, running, "paused") == "paused"
    send_due_emails(resources, 60.0)
    assert ses.accepted() == []
    assert statuses(engine, running) == {"cancelled": 4}


def test_going_on_resumes_with_the_length_of_the_pause(
    engine: sa.Engine, running: uuid.UUID, resources: Resources, ses: SesSimulator
) -> None:
    due = [row["scheduled_for"] for row in rows_of(engine, running)]
    lifecycle.pause_campaign(engine, running)
    pass_time(engine, 3 * DAY)
    assert old_write(engine, running, "completed") == "paused"
    assert old_write(engine, running, "active") == "running"
    send_due_emails(resources, 60.0)
    assert len(ses.accepted()) == 2
    later = [row["scheduled_for"] for row in rows_of(engine, running)]
    # The clock stands where it was, and the times have moved back by three days and forward by as many.
    assert [abs(new - old) < dt.timedelta(minutes=5) for old, new in zip(due, later, strict=True)] == [True] * 4


def test_archived_campaign_sends_nothing_more_and_frees_its_batch(
    engine: sa.Engine, running: uuid.UUID, resources: Resources, ses: SesSimulator
) -> None:
    assert old_write(engine, running, "archived") == "archived"
    send_due_emails(resources, 60.0)
    assert ses.accepted() == []
    assert statuses(engine, running) == {"cancelled": 4}
    with engine.connect() as connection:
        assert connection.scalar(sa.select(lead_batches.c.active_campaign_id)) is None


@pytest.mark.parametrize("status", ["active", "paused", "completed", "draft"])
def test_campaign_that_has_ended_stays_ended(engine: sa.Engine, running: uuid.UUID, status: str) -> None:
    lifecycle.cancel_campaign(engine, running)
    assert old_write(engine, running, status) == "cancelled"


@pytest.mark.parametrize(("status", "left"), [("active", "scheduled"), ("paused", "draft"), ("draft", "draft")])
def test_scheduled_campaign_is_not_started_by_the_old_application(
    engine: sa.Engine, connection: sa.Connection, status: str, left: str
) -> None:
    tomorrow = dt.datetime.now(dt.UTC) + DAY
    campaign_id = make_campaign(connection, 1, start_type="scheduled", scheduled_start_at=tomorrow)
    lifecycle.start_campaign(engine, campaign_id)
    assert old_write(engine, campaign_id, status) == left


@pytest.mark.parametrize("status", ["active", "paused", "completed", "archived", "draft"])
def test_campaign_of_the_old_application_is_its_own(engine: sa.Engine, status: str) -> None:
    with old_application(engine) as connection:
        campaign_id = OldApplication(connection).campaign(status="active", campaign_type="manual")
    assert old_write(engine, campaign_id, status) == status


def test_status_may_be_called_an_enum(engine: sa.Engine) -> None:
    with old_application(engine) as connection:
        campaign_id = OldApplication(connection).campaign(status="draft")
        connection.exec_driver_sql("UPDATE campaigns SET status = 'active'::campaign_status")
        query = "SELECT id FROM campaigns WHERE status = 'active'::campaign_status"
        assert connection.exec_driver_sql(query).scalar_one() == campaign_id


def mail_of_others(engine: sa.Engine, campaign_id: uuid.UUID, **values: Any) -> uuid.UUID:
    lead_id = rows_of(engine, campaign_id)[0]["lead_id"]
    with old_application(engine) as connection:
        return OldApplication(connection).email(campaign_id, lead_id, **values)


def test_email_that_the_old_application_sends_is_not_sent_again(
    engine: sa.Engine, running: uuid.UUID, resources: Resources, ses: SesSimulator
) -> None:
    email_id = mail_of_others(engine, running, days_ago=0, external_id="smtp-1")
    first, second, *_ = rows_of(engine, running)
    assert (first["status"], first["email_id"], first["ses_message_id"]) == ("sent", email_id, "smtp-1")
    assert second["scheduled_for"] - first["sent_at"] >= DAY
    send_due_emails(resources, 60.0)
    pass_time(engine, DAY + dt.timedelta(seconds=60))
    send_due_emails(resources, 60.0)
    assert len(ses.accepted()) == 3
    campaign = campaign_row(engine, running)
    assert (campaign["status"], campaign["emails_sent_count"]) == ("completed", 4)


def test_email_of_the_old_application_settles_no_answer_to_a_reply(engine: sa.Engine, running: uuid.UUID) -> None:
    with engine.begin() as connection:
        step = {"campaign_id": running, "step_number": 1001, "delay": NO_DELAY, "subject": "a", "body_text": "a"}
        connection.execute(sa.insert(campaign_steps).values(step))
        connection.execute(
            sa.text("UPDATE scheduled_emails SET workflow_step_number = 1001 WHERE workflow_step_number = 1")
        )
    mail_of_others(engine, running, days_ago=0)
    first_lead = rows_of(engine, running)[0]["lead_id"]
    settled = [row["workflow_step_number"] for row in rows_of(engine, running) if row["status"] == "sent"]
    assert settled == [2]
    mail_of_others(engine, running, days_ago=0)
    of_lead = [row["status"] for row in rows_of(engine, running) if row["lead_id"] == first_lead]
    assert sorted(of_lead) == ["pending", "sent"]


def test_email_that_leaves_the_old_queue_is_not_sent_again(engine: sa.Engine, running: uuid.UUID) -> None:
    email_id = mail_of_others(engine, running, days_ago=None, status="queued", follow_up_stage="follow_up_1")
    assert statuses(engine, running) == {"pending": 4}
    with old_application(engine) as connection:
        connection.execute(
            sa.text("UPDATE emails SET status = 'sent', sent_at = now() WHERE id = :id"), {"id": email_id}
        )
    assert [row["status"] for row in rows_of(engine, running)[:2]] == ["pending", "sent"]


def test_news_of_an_email_that_was_sent_before_settles_nothing(engine: sa.Engine, running: uuid.UUID) -> None:
    email_id = mail_of_others(engine, running, days_ago=1, status="failed")
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE emails SET status = 'delivered' WHERE id = :id"), {"id": email_id})
    with old_application(engine) as connection:
        connection.execute(sa.text("UPDATE emails SET status = 'opened' WHERE id = :id"), {"id": email_id})
    assert statuses(engine, running) == {"pending": 4}


def test_wish_and_result_of_a_change_are_in_the_audit_log(engine: sa.Engine, running: uuid.UUID) -> None:
    old_write(engine, running, "active")
    old_write(engine, running, "completed")
    with engine.connect() as connection:
        query = sa.select(audit_log.c.detail).where(audit_log.c.actor == "other_application")
        details = list(connection.scalars(query))
    assert details == [{"from": "running", "wanted": "completed", "became": "running"}]


def test_role_that_may_not_see_the_ledger_can_still_write(engine: sa.Engine, running: uuid.UUID) -> None:
    with old_application(engine) as connection:
        connection.exec_driver_sql("CREATE ROLE old_app; GRANT SELECT, UPDATE ON campaigns TO old_app")
        connection.exec_driver_sql("SET LOCAL ROLE old_app; UPDATE campaigns SET status = 'paused'")
        connection.exec_driver_sql("RESET ROLE; DROP OWNED BY old_app; DROP ROLE old_app")
    assert campaign_row(engine, running)["status"] == "paused"


ADOPTION_WAITS = """EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
                            AND application_name = 'sendledger' AND wait_event_type = 'Lock')"""


def test_open_that_the_old_application_notes_meanwhile_does_not_stop_the_adoption(engine: sa.Engine) -> None:
    with old_application(engine) as connection:
        old = OldApplication(connection)
        campaign_id = old.campaign(status="active", workflow_id=old.workflow(THREE_STEPS))
        email_id = old.email(campaign_id, old.lead("ann@example.com"), 1)
    with ThreadPoolExecutor(1) as pool, old_application(engine) as connection:
        # An UPDATE locks its row first. Only then its trigger refers to the campaign.
        connection.execute(sa.text("SELECT FROM emails WHERE id = :id FOR NO KEY UPDATE"), {"id": email_id})
        adopting = pool.submit(adopt, engine)
        wait_until(engine, ADOPTION_WAITS)
        connection.execute(sa.text("UPDATE emails SET opened_at = now() WHERE id = :id"), {"id": email_id})
    (campaign,) = adopting.result().campaigns
    assert (campaign.status_after, campaign.problems) == ("running", [])
    with engine.connect() as looking:
        query = sa.select(emails.c.opened_at.is_not(None), emails.c.scheduled_email_id.is_not(None))
        assert looking.execute(query).one() == (True, True)


def test_steps_that_the_old_application_replaces_meanwhile_do_not_stop_the_adoption(engine: sa.Engine) -> None:
    with old_application(engine) as connection:
        old = OldApplication(connection)
        workflow_id = old.workflow(THREE_STEPS)
        old.email(old.campaign(status="active", workflow_id=workflow_id), old.lead("ann@example.com"), 1)
    with ThreadPoolExecutor(1) as pool, old_application(engine) as connection:
        connection.execute(sa.text("DELETE FROM workflow_steps WHERE workflow_id = :id"), {"id": workflow_id})
        adopting = pool.submit(adopt, engine)
        wait_until(engine, ADOPTION_WAITS)
        values = {"workflow_id": workflow_id, "step_number": 1, "subject": "New", "body": "Hi"}
        OldApplication(connection).insert("workflow_steps", **values)
    report = adopting.result()
    (campaign,) = report.campaigns
    assert (campaign.status_after, campaign.steps, report.needs_a_person) == ("running", 1, False)
