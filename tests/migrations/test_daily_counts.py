"""Revisions 0074 and 0075: what happened on each day is counted beside senders at work, once."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from sendledger.campaigns import lifecycle
from testbed.campaigns import make_campaign
from testbed.databases import SCRIPTS

SEND = """
    UPDATE scheduled_emails SET status = 'sent', sent_at = now() - make_interval(days => {age})
    WHERE id = ANY(ARRAY(SELECT id FROM scheduled_emails WHERE status = 'pending' ORDER BY id LIMIT {count}))
"""


@pytest.mark.parametrize("folded", [False, True])
def test_what_is_sent_between_the_revisions_counts_once(
    engine: sa.Engine, connection: sa.Connection, folded: bool
) -> None:
    campaign_id = make_campaign(connection, 9)
    lifecycle.start_campaign(engine, campaign_id)
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", SCRIPTS)
    command.downgrade(config, "0073")
    connection.execute(sa.text(SEND.format(age=3, count=4)))
    connection.commit()
    command.upgrade(config, "0074")
    connection.execute(sa.text(SEND.format(age=0, count=2)))
    if folded:
        # As functions of the version before do it.
        total = "UPDATE campaign_counts SET is_total = true WHERE hour > '-infinity'"
        connection.execute(sa.text(total))
    connection.commit()
    for _ in range(2):
        command.upgrade(config, "0075")
        connection.commit()
        days = connection.execute(sa.text("SELECT what, sum(count) FROM daily_counts GROUP BY day, what ORDER BY day"))
        assert [tuple(day) for day in days] == [("sent", 4), ("sent", 2)]
        connection.commit()
        # Once more: nothing is missing.
        command.stamp(config, "0074")
        connection.commit()
    command.upgrade(config, "head")
    command.check(config)
