"""What takes its time on tables that are already large: indexes and a check, made without blocking their writers."""

from sendledger.core.online_ddl import creation, exchange_indexes, outside_of_a_transaction

revision = "0007"
down_revision = "0006b"

INDEXES = {
    "leads_lower_email_idx": "leads (lower(email))",
    "leads_batch_id_idx": "leads (batch_id)",
    "campaign_leads_campaign_id_lead_id_idx": "campaign_leads (campaign_id, lead_id)",
    "campaign_leads_lead_id_idx": "campaign_leads (lead_id)",
    "emails_external_id_idx": "emails (external_id)",
    "emails_lead_id_idx": "emails (lead_id)",
}


def upgrade() -> None:
    outside_of_a_transaction(*creation(INDEXES), "ALTER TABLE emails VALIDATE CONSTRAINT emails_delivery_status_check")


def downgrade() -> None:
    exchange_indexes(INDEXES)
