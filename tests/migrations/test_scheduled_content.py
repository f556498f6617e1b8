"""Revisions 0081 and 0083: a scheduled campaign has something to send, and a draft need not have it."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from sendledger.campaigns import lifecycle
from sendledger.core.tables import audit_log, campaigns
from testbed.campaigns import NO_DELAY, campaign_row, make_campaign, make_template, make_workflow
from testbed.databases import MIGRATIONS

SCHEDULED: dict[str, Any] = {"status": "scheduled", "start_type": "scheduled", "scheduled_start_at": sa.func.now()}


@pytest.mark.parametrize("status", ["draft", "failed", "completed", "archived"])
def test_campaign_that_does_not_start_by_itself_may_have_no_content(connection: sa.Connection, status: str) -> None:
    make_campaign(connection, 0, status=status, email_template_id=None)


def test_database_takes_no_content_from_a_scheduled_campaign(connection: sa.Connection) -> None:
    with_workflow = make_campaign(connection, 0, email_template_id=None, workflow_id=make_workflow(connection, []))
    for campaign_id in (make_campaign(connection, 0), with_workflow):
        own = sa.update(campaigns).where(campaigns.c.id == campaign_id)
        connection.execute(own.values(SCHEDULED))
        with pytest.raises(sa.exc.DBAPIError, match="campaigns_scheduled_content_check"), connection.begin_nested():
            connection.execute(own.values(email_template_id=None, workflow_id=None))
    connection.rollback()


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ("DELETE FROM workflows", "failed"),
        ("UPDATE campaigns SET workflow_id = NULL", "failed"),
        # `active` of the other application is no status of a scheduled campaign, which stays scheduled.
        ("UPDATE campaigns SET workflow_id = NULL, status = 'active'", "failed"),
        ("UPDATE campaigns SET workflow_id = NULL, status = 'draft'", "draft"),
    ],
)
def test_another_application_can_remove_what_a_scheduled_campaign_sends(
    engine: sa.Engine, connection: sa.Connection, change: str, status: str
) -> None:
    content: dict[str, Any] = {"email_template_id": None, "workflow_id": make_workflow(connection, [NO_DELAY])}
    campaign_id = make_campaign(connection, 1, **content, **SCHEDULED)
    connection.execute(sa.text("SET application_name = 'another'"))
    connection.execute(sa.text(change))
    connection.execute(sa.text("RESET application_name"))
    connection.commit()
    row = campaign_row(engine, campaign_id)
    assert (row["status"], row["workflow_id"]) == (status, None)
    if status == "failed":
        assert "another application has removed" in row["failure_reason"]
        assert row["failed_at"] is not None
        logged = connection.execute(sa.select(audit_log.c.actor, audit_log.c.action, audit_log.c.entity_id)).all()
        assert logged[-1] == ("other_application", "campaign.fail", str(campaign_id))
        # Completed, it can be started as any other that failed.
        own = sa.update(campaigns).where(campaigns.c.id == campaign_id)
        connection.execute(own.values(email_template_id=make_template(connection), start_type="manual"))
        connection.execute(own.values(scheduled_start_at=None))
        connection.commit()
        assert lifecycle.start_campaign(engine, campaign_id).status == "running"


def test_scheduled_campaign_without_content_fails_with_the_upgrade(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS))
    command.downgrade(config, "0080")
    connection.commit()
    without = make_campaign(connection, 1, email_template_id=None, **SCHEDULED)
    whole = make_campaign(connection, 1, **SCHEDULED)
    # A trigger guards the status against other applications than ours.
    connection.execute(sa.text("SET application_name = 'another'"))
    connection.commit()
    for _ in range(2):  # as after an interruption
        command.upgrade(config, "0081")
        connection.commit()
        failed = campaign_row(engine, without)
        assert (failed["status"], campaign_row(engine, whole)["status"]) == ("failed", "scheduled")
        assert "neither an email template nor a workflow" in failed["failure_reason"]
        assert failed["failed_at"] is not None
        command.stamp(config, "0080")
        connection.commit()
    connection.execute(sa.text("RESET application_name"))
    connection.commit()
    command.upgrade(config, "head")
    command.check(config)
