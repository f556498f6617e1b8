"""Revisions 0057 and 0057b: what counts against the caps is counted beside senders at work, once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from sendledger.campaigns import lifecycle
from sendledger.policy import sender_addresses
from testbed.campaigns import make_campaign
from testbed.databases import SCRIPTS

CLAIM = """
    UPDATE scheduled_emails SET status = 'sending', claim_token = gen_random_uuid(), lease_until = now(),
           sender_id = (SELECT id FROM sender_addresses), sending_day = '2026-11-27'
    WHERE id = ANY(ARRAY(SELECT id FROM scheduled_emails WHERE status = 'pending' ORDER BY id LIMIT {}))
"""
RETURN = """
    UPDATE scheduled_emails SET status = 'pending', claim_token = NULL, lease_until = NULL
    WHERE id = (SELECT min(id) FROM scheduled_emails WHERE status = 'sending')
"""


def test_what_is_claimed_and_returned_between_the_revisions_counts_once(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    ann = sender_addresses.create(connection, {"from_address": "ann@example.com", "daily_cap": 50})["id"]
    campaign_id = make_campaign(connection, 9, sender_ids=[ann])
    lifecycle.start_campaign(engine, campaign_id)
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", SCRIPTS)
    command.downgrade(config, "0056")
    connection.execute(sa.text(CLAIM.format(4)))
    connection.commit()
    command.upgrade(config, "0057")
    connection.execute(sa.text(CLAIM.format(2)))
    connection.execute(sa.text(RETURN))
    connection.execute(sa.text(RETURN))
    connection.commit()
    for _ in range(2):
        command.upgrade(config, "0057b")
        connection.commit()
        uses = connection.execute(sa.text("SELECT sender_id, sum(count) FROM cap_uses GROUP BY 1")).all()
        assert [tuple(use) for use in uses] == [(ann, 4)]
        connection.commit()
        # Once more: nothing is missing.
        command.stamp(config, "0057")
        connection.commit()
    command.upgrade(config, "head")


def test_what_was_counted_stays_where_its_rows_have_been_removed_since(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    """An installation that had 0057 alone, with a retention of ledgers: a ramp counts the days of removed emails."""
    ann = sender_addresses.create(connection, {"from_address": "ann@example.com", "daily_cap": 50})["id"]
    campaign_id = make_campaign(connection, 3, sender_ids=[ann])
    lifecycle.start_campaign(engine, campaign_id)
    connection.execute(sa.text(CLAIM.format(3)))
    connection.execute(sa.text("DELETE FROM scheduled_emails WHERE id = (SELECT min(id) FROM scheduled_emails)"))
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", SCRIPTS)
    command.downgrade(config, "0057")
    command.upgrade(config, "head")
    assert connection.scalar(sa.text("SELECT sum(count) FROM cap_uses")) == 3
