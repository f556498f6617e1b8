"""Replies, who opted out by the link in an email, and campaigns that may go without a postal address."""

from alembic import op

revision = "0009"
down_revision = "0008"

UPGRADE = """
CREATE TABLE unsubscribes (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    lead_id UUID NOT NULL,
    campaign_id UUID NOT NULL,
    scheduled_email_id BIGINT NOT NULL,
    scope TEXT NOT NULL,
    method TEXT NOT NULL,
    created_at TIMESTAMPTZ DEFAULT now() NOT NULL,
    undone_at TIMESTAMPTZ,
    CONSTRAINT unsubscribes_pkey PRIMARY KEY (id),
    CONSTRAINT unsubscribes_scope_check CHECK (scope IN ('campaign', 'everything')),
    CONSTRAINT unsubscribes_method_check CHECK (method IN ('one_click', 'page'))
);
CREATE UNIQUE INDEX unsubscribes_active_key ON unsubscribes (lead_id, campaign_id) WHERE undone_at IS NULL;
CREATE TABLE replies (
    id UUID DEFAULT gen_random_uuid() NOT NULL,
    message_id TEXT NOT NULL,
    source TEXT NOT NULL,
    from_address TEXT NOT NULL,
    subject TEXT NOT NULL,
    body_text TEXT NOT NULL,
    automatic TEXT,
    matched_by TEXT,
    lead_id UUID,
    campaign_id UUID,
    email_id UUID,
    emails_skipped INTEGER DEFAULT 0 NOT NULL,
    created_at TIMESTAMPTZ DEFAULT now() NOT NULL,
    CONSTRAINT replies_pkey PRIMARY KEY (id),
    CONSTRAINT replies_message_id_key UNIQUE (message_id),
    CONSTRAINT replies_lead_id_fkey FOREIGN KEY (lead_id) REFERENCES leads (id) ON DELETE CASCADE,
    CONSTRAINT replies_campaign_id_fkey FOREIGN KEY (campaign_id) REFERENCES campaigns (id) ON DELETE SET NULL,
    CONSTRAINT replies_email_id_fkey FOREIGN KEY (email_id) REFERENCES emails (id) ON DELETE SET NULL,
    CONSTRAINT replies_matched_by_check CHECK (matched_by IN ('token', 'message_id', 'address')),
    CONSTRAINT replies_matched_has_lead_check CHECK (matched_by IS NULL OR lead_id IS NOT NULL),
    CONSTRAINT replies_source_check CHECK (source IN ('ses', 'api'))
);
CREATE INDEX replies_lead_id_idx ON replies (lead_id);
CREATE INDEX replies_campaign_id_idx ON replies (campaign_id);
CREATE INDEX replies_email_id_idx ON replies (email_id);
ALTER TABLE campaigns ADD postal_address_waived boolean NOT NULL DEFAULT false;
"""
DOWNGRADE = """
ALTER TABLE campaigns DROP postal_address_waived;
DROP TABLE replies;
DROP TABLE unsubscribes;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE)


def downgrade() -> None:
    op.get_bind().exec_driver_sql(DOWNGRADE)
