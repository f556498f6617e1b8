"""What reads the whole ledger, made without blocking anybody: the check of the reasons and the index of sender addresses.

An email that the old application sends without a stage settles no answer to a reply: it is the next step of the
campaign.
"""

from __future__ import annotations

from alembic import op

from sendledger.core.online_ddl import creation, exchange_indexes, outside_of_a_transaction

revision = "0039"
down_revision = "0038"

INDEXES = {"scheduled_emails_sender_id_idx": "scheduled_emails (sender_id, sending_day) WHERE sending_day IS NOT NULL"}
# The text of the function is the one of 0006b in every other respect.
REPLACE_IN_SETTLEMENT = """
DO $$ BEGIN
    EXECUTE replace(pg_get_functiondef('settle_email_of_others'::regproc), '{old}', '{new}');
END $$
"""
WITH_ANSWERS = "(stage IS NULL AND (e.status"
WITHOUT_ANSWERS = "(stage IS NULL AND e.workflow_step_number <= 1000 AND (e.status"


def upgrade() -> None:
    outside_of_a_transaction(
        "ALTER TABLE scheduled_emails VALIDATE CONSTRAINT scheduled_emails_reason_check",
        *creation(INDEXES),
    )
    op.execute(REPLACE_IN_SETTLEMENT.format(old=WITH_ANSWERS, new=WITHOUT_ANSWERS))


def downgrade() -> None:
    op.execute(REPLACE_IN_SETTLEMENT.format(old=WITHOUT_ANSWERS, new=WITH_ANSWERS))
    exchange_indexes(INDEXES)
