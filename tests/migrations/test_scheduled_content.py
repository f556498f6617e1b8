"""Revision 0081: a scheduled campaign has something to send, and a draft need not have it."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from sendledger.core.tables import campaigns
from testbed.campaigns import campaign_row, make_campaign, make_workflow
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
