"""Imports that run in the background, exports, and indexes for the lists of leads."""

from alembic import op

from sendledger.core.online_ddl import creation, exchange_indexes, outside_of_a_transaction, removal

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
    outside_of_a_transaction(*creation(INDEXES), *removal(REPLACED))
    op.get_bind().exec_driver_sql(UPGRADE)


def downgrade() -> None:
    exchange_indexes(INDEXES, REPLACED)
    op.get_bind().exec_driver_sql(DOWNGRADE)
