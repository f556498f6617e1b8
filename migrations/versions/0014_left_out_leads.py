"""Which leads a start left out and why, and indexes for lists of the ledger by status, suppressions and replies."""

from alembic import op

from sendledger.core.online_ddl import creation, outside_of_a_transaction

revision = "0014"
down_revision = "0013b"

INDEXES = {
    "scheduled_emails_done_idx": "scheduled_emails (campaign_id, status, id)"
    " WHERE status IN ('sent', 'failed', 'skipped', 'cancelled')",
    "suppressions_newest_idx": "suppressions (created_at, id)",
    "replies_newest_idx": "replies (created_at, id)",
}

TABLE = """
CREATE TABLE left_out_leads (
    id bigint GENERATED ALWAYS AS IDENTITY,
    campaign_id uuid NOT NULL,
    lead_id uuid,
    reason text NOT NULL,
    CONSTRAINT left_out_leads_pkey PRIMARY KEY (campaign_id, reason, id),
    CONSTRAINT left_out_leads_lead_id_campaign_id_key UNIQUE (lead_id, campaign_id),
    CONSTRAINT left_out_leads_campaign_id_fkey FOREIGN KEY (campaign_id) REFERENCES campaigns (id) ON DELETE CASCADE,
    CONSTRAINT left_out_leads_lead_id_fkey FOREIGN KEY (lead_id) REFERENCES leads (id) ON DELETE SET NULL,
    CONSTRAINT left_out_leads_reason_check CHECK (reason IN ('no_address', 'invalid_address', 'lead_responded',
        'lead_not_interested', 'lead_converted', 'lead_invalid', 'suppressed', 'duplicate_address'))
);
"""


def upgrade() -> None:
    # The indexes first: if their building is interrupted, the whole revision can be tried again.
    outside_of_a_transaction(*creation(INDEXES))
    op.get_bind().exec_driver_sql(TABLE)


def downgrade() -> None:
    op.execute("DROP TABLE left_out_leads")
    for name in INDEXES:
        op.execute(f"DROP INDEX IF EXISTS {name}")
