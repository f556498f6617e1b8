"""What reads the whole ledger, made without blocking anybody: the check of the reasons and the index of sender addresses.

An email that the old application sends without a stage settles no answer to a reply: it is the next step of the
campaign.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0039"
down_revision = "0038"

INDEX = "scheduled_emails_sender_id_idx"
# The text of the function is the one of 0006b in every other respect.
REPLACE_IN_SETTLEMENT = """
DO $$ BEGIN
    EXECUTE replace(pg_get_functiondef('settle_email_of_others'::regproc), '{old}', '{new}');
END $$
"""
WITH_ANSWERS = "(stage IS NULL AND (e.status"
WITHOUT_ANSWERS = "(stage IS NULL AND e.workflow_step_number <= 1000 AND (e.status"


def upgrade() -> None:
    _outside_of_a_transaction(
        "ALTER TABLE scheduled_emails VALIDATE CONSTRAINT scheduled_emails_reason_check",
        # An interrupted concurrent build leaves an invalid index behind; IF NOT EXISTS would keep it.
        f"DROP INDEX CONCURRENTLY IF EXISTS {INDEX}",
        f"CREATE INDEX CONCURRENTLY {INDEX} ON scheduled_emails (sender_id, sending_day) WHERE sending_day IS NOT NULL",
    )
    op.execute(REPLACE_IN_SETTLEMENT.format(old=WITH_ANSWERS, new=WITHOUT_ANSWERS))


def downgrade() -> None:
    op.execute(REPLACE_IN_SETTLEMENT.format(old=WITHOUT_ANSWERS, new=WITH_ANSWERS))
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
