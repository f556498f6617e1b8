"""The index of first steps by company takes the place of the two indexes that a claim had to write to."""

from __future__ import annotations

from sendledger.core.online_ddl import creation, exchange_indexes, outside_of_a_transaction, removal

revision = "0058"
down_revision = "0057b"

OPEN = "sent_at IS NULL AND failed_at IS NULL AND reason IS NULL"
INDEXES = {
    "scheduled_emails_open_company_idx": (
        "scheduled_emails (campaign_id, lane, coalesce(lead_company, 0), scheduled_for, id)"
        f" WHERE workflow_step_number = 1 AND lane > 0 AND {OPEN}"
    )
}
INDEXES_BEFORE = {
    "scheduled_emails_sender_id_idx": "scheduled_emails (sender_id, sending_day) WHERE sending_day IS NOT NULL",
    "scheduled_emails_new_leads_idx": (
        "scheduled_emails (campaign_id, sending_day) WHERE sending_day IS NOT NULL AND workflow_step_number = 1"
    ),
}
# Of campaigns that have started before; free mail providers count as companies in them.
NOTE_COMPANIES = """
    UPDATE scheduled_emails e
    SET lead_company = hashtextextended(split_part(lower(btrim(l.email)), '@', 2), 0)
    FROM campaigns c, leads l
    WHERE c.status IN ('running', 'paused') AND e.campaign_id = c.id AND e.lane > 0 AND e.workflow_step_number = 1
      AND e.lead_company IS NULL AND l.id = e.lead_id AND position('@' IN l.email) > 0
"""


def upgrade() -> None:
    outside_of_a_transaction(NOTE_COMPANIES, *creation(INDEXES), *removal(INDEXES_BEFORE))


def downgrade() -> None:
    exchange_indexes(INDEXES, INDEXES_BEFORE)
