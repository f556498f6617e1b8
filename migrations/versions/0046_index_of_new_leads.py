"""The check and the index of the caps of new leads, made without blocking anybody."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0046"
down_revision = "0045"

INDEX = "scheduled_emails_new_leads_idx"


def upgrade() -> None:
    _outside_of_a_transaction(
        "ALTER TABLE campaigns VALIDATE CONSTRAINT campaigns_new_leads_positive_check",
        # An interrupted concurrent build leaves an invalid index behind; IF NOT EXISTS would keep it.
        f"DROP INDEX CONCURRENTLY IF EXISTS {INDEX}",
        f"CREATE INDEX CONCURRENTLY {INDEX} ON scheduled_emails (campaign_id, sending_day)"
        " WHERE sending_day IS NOT NULL AND workflow_step_number = 1",
    )


def downgrade() -> None:
    _outside_of_a_transaction(f"DROP INDEX CONCURRENTLY IF EXISTS {INDEX}")


def _outside_of_a_transaction(*statements: str) -> None:
    with op.get_context().autocommit_block():
        # Alembic asks for the isolation level as it enters the block, and with pg8000 that opens a transaction.
        op.execute("COMMIT")
        # A concurrent build waits for transactions that are older than itself, and blocks nobody while it does.
        lock_timeout = op.get_bind().scalar(sa.text("SHOW lock_timeout"))
        op.execute("COMMIT")
        op.execute("SET lock_timeout = '10min'")
        for statement in statements:
            op.execute(statement)
        op.execute(f"SET lock_timeout = '{lock_timeout}'")
