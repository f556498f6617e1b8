"""Revision 0033 on a ledger with rows in every state, there and back."""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from sendledger.campaigns import lifecycle
from sendledger.core.vocabulary import ScheduledEmailStatus
from sendledger.ledger import scheduled_emails
from testbed.campaigns import make_campaign
from testbed.databases import SCRIPTS

TOKEN = uuid.UUID(int=7)
STATES = {
    "pending": "reason = 'late'",  # the schema before let this be
    "sending": f"claim_token = '{TOKEN}', lease_until = now(), send_started_at = now()",
    "sent": "sent_at = now(), claim_token = gen_random_uuid()",
    "failed": "error_code = 'bad_request'",  # without a time
    "skipped": "reason = 'suppressed'",
    "cancelled": "reason = 'skipped_before'",
}


def ledger(connection: sa.Connection) -> list[tuple[object, ...]]:
    rows = connection.execute(sa.text("SELECT id, status, error_code, claim_token FROM scheduled_emails ORDER BY id"))
    return [tuple(row) for row in rows]


def test_rows_in_every_state_survive_and_are_found(engine: sa.Engine, connection: sa.Connection) -> None:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", SCRIPTS)
    campaign_id = make_campaign(connection, len(STATES))
    lifecycle.start_campaign(engine, campaign_id)
    command.downgrade(config, "0032")
    ids = connection.scalars(sa.text("SELECT id FROM scheduled_emails ORDER BY id")).all()
    for id_, (status, values) in zip(ids, STATES.items(), strict=True):
        connection.execute(sa.text(f"UPDATE scheduled_emails SET status = '{status}', {values} WHERE id = {id_}"))
    connection.commit()
    before = ledger(connection)

    command.upgrade(config, "head")
    assert ledger(connection) == before
    for status in ScheduledEmailStatus:
        page = scheduled_emails.list_page(connection, 10, None, campaign_id=campaign_id, status=status)
        assert [row["status"] for row in page.items] == [status]
    claims = connection.execute(sa.text("SELECT claim_token, row_ids FROM claims")).all()
    assert [tuple(claim) for claim in claims] == [(TOKEN, [ids[1]])]

    connection.commit()
    command.downgrade(config, "0032")
    assert ledger(connection) == before
