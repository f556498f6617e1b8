"""What takes its time on tables that are already large: indexes and a check, made without blocking their writers."""

import sqlalchemy as sa
from alembic import op

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
    with op.get_context().autocommit_block():
        _leave_transaction()
        # A concurrent build waits for transactions that are older than itself, and blocks nobody while it does.
        lock_timeout = op.get_bind().scalar(sa.text("SHOW lock_timeout"))
        op.execute("COMMIT")
        op.execute("SET lock_timeout = '10min'")
        for name, columns in INDEXES.items():
            # An interrupted concurrent build leaves an invalid index behind; IF NOT EXISTS would keep it.
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {columns}")
        op.execute("ALTER TABLE emails VALIDATE CONSTRAINT emails_delivery_status_check")
        op.execute(f"SET lock_timeout = '{lock_timeout}'")


def downgrade() -> None:
    with op.get_context().autocommit_block():
        _leave_transaction()
        for name in INDEXES:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


def _leave_transaction() -> None:
    # Alembic asks for the isolation level as it enters the block, and with pg8000 that question opens a transaction.
    op.execute("COMMIT")
