"""Imports that run in the background, exports, and indexes for the lists of leads."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

INDEXES = {
    "leads_newest_idx": "leads ((coalesce(created_at, '-infinity'::timestamp)), id)",
    "leads_batch_id_newest_idx": "leads (batch_id, (coalesce(created_at, '-infinity'::timestamp)), id)",
}
REPLACED = {"leads_batch_id_idx": "leads (batch_id)"}

UPGRADE = """
ALTER TABLE lead_batches
    ADD status TEXT NOT NULL DEFAULT 'completed',
    ADD failure_reason TEXT,
    ADD source_object TEXT,
    ADD source_etag TEXT,
    ADD rejects_object TEXT,
    ADD runs_without_progress SMALLINT NOT NULL DEFAULT 0,
    ADD CONSTRAINT lead_batches_status_check CHECK (status IN ('pending', 'importing', 'completed', 'failed', 'deleting')),
    ADD CONSTRAINT lead_batches_failed_has_reason_check CHECK (status <> 'failed' OR failure_reason IS NOT NULL);
CREATE INDEX lead_batches_unfinished_idx ON lead_batches (updated_at) WHERE status IN ('pending', 'importing', 'deleting');
CREATE TABLE exports (
    id UUID DEFAULT gen_random_uuid() NOT NULL,
    kind TEXT NOT NULL,
    campaign_id UUID,
    filters JSONB DEFAULT '{}' NOT NULL,
    status TEXT DEFAULT 'pending' NOT NULL,
    rows_written INTEGER DEFAULT 0 NOT NULL,
    failure_reason TEXT,
    object_key TEXT,
    attempts SMALLINT DEFAULT 0 NOT NULL,
    requested_by TEXT NOT NULL,
    created_at TIMESTAMPTZ DEFAULT now() NOT NULL,
    updated_at TIMESTAMPTZ DEFAULT now() NOT NULL,
    completed_at TIMESTAMPTZ,
    CONSTRAINT exports_pkey PRIMARY KEY (id),
    CONSTRAINT exports_campaign_id_fkey FOREIGN KEY (campaign_id) REFERENCES campaigns (id) ON DELETE CASCADE,
    CONSTRAINT exports_kind_check CHECK (kind IN ('leads', 'campaign_ledger')),
    CONSTRAINT exports_status_check CHECK (status IN ('pending', 'running', 'completed', 'failed')),
    CONSTRAINT exports_ledger_has_campaign_check CHECK ((kind = 'campaign_ledger') = (campaign_id IS NOT NULL)),
    CONSTRAINT exports_completed_has_object_check CHECK (status <> 'completed' OR object_key IS NOT NULL),
    CONSTRAINT exports_failed_has_reason_check CHECK (status <> 'failed' OR failure_reason IS NOT NULL)
);
CREATE INDEX exports_campaign_id_idx ON exports (campaign_id);
CREATE INDEX exports_unfinished_idx ON exports (updated_at) WHERE status IN ('pending', 'running');
"""
DOWNGRADE = """
DROP TABLE exports;
DROP INDEX lead_batches_unfinished_idx;
ALTER TABLE lead_batches
    DROP runs_without_progress,
    DROP rejects_object,
    DROP source_etag,
    DROP source_object,
    DROP failure_reason,
    DROP status;
"""


def upgrade() -> None:
    # The indexes first: if their building is interrupted, the whole revision can be tried again.
    _change_indexes(create=INDEXES, drop=REPLACED)
    op.get_bind().exec_driver_sql(UPGRADE)


def downgrade() -> None:
    _change_indexes(create=REPLACED, drop=INDEXES)
    op.get_bind().exec_driver_sql(DOWNGRADE)


def _change_indexes(create: dict[str, str], drop: dict[str, str]) -> None:
    """Without blocking those who write to the table."""
    with op.get_context().autocommit_block():
        # Alembic asks for the isolation level as it enters the block, and with pg8000 that opens a transaction.
        op.execute("COMMIT")
        lock_timeout = op.get_bind().scalar(sa.text("SHOW lock_timeout"))
        op.execute("COMMIT")
        # A concurrent build waits for transactions that are older than itself, and blocks nobody while it does.
        op.execute("SET lock_timeout = '10min'")
        for name, columns in create.items():
            # An interrupted concurrent build leaves an invalid index behind; IF NOT EXISTS would keep it.
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {columns}")
        for name in drop:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        op.execute(f"SET lock_timeout = '{lock_timeout}'")
