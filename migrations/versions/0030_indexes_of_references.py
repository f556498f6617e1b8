"""Indexes for foreign keys whose parents are deleted in large numbers or whose table is large.

Without them each deleted lead reads all of the old application's table of sources, and each deleted campaign all
suppressions.
"""

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"

INDEXES = {
    "lead_source_roi_lead_id_idx": "lead_source_roi (lead_id)",
    # Most suppressions are about every campaign.
    "suppressions_campaign_id_idx": "suppressions (campaign_id) WHERE campaign_id IS NOT NULL",
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
        op.execute(f"SET lock_timeout = '{lock_timeout}'")


def downgrade() -> None:
    with op.get_context().autocommit_block():
        _leave_transaction()
        for name in INDEXES:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


def _leave_transaction() -> None:
    # Alembic asks for the isolation level as it enters the block, and with pg8000 that question opens a transaction.
    op.execute("COMMIT")
