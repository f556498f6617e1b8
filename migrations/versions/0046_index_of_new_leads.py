"""The check and the index of the caps of new leads, made without blocking anybody."""

from __future__ import annotations

from sendledger.core.online_ddl import creation, exchange_indexes, outside_of_a_transaction

revision = "0046"
down_revision = "0045"

INDEXES = {
    "scheduled_emails_new_leads_idx": "scheduled_emails (campaign_id, sending_day)"
    " WHERE sending_day IS NOT NULL AND workflow_step_number = 1"
}


def upgrade() -> None:
    outside_of_a_transaction(
        "ALTER TABLE campaigns VALIDATE CONSTRAINT campaigns_new_leads_positive_check",
        *creation(INDEXES),
    )


def downgrade() -> None:
    exchange_indexes(INDEXES)
