"""Retention: what was removed of each campaign, and what must be known of it for ever.

`removed_emails` has the totals of removed rows of the ledger, `past_contacts` which campaign has written to which lead.
"""

from __future__ import annotations

from alembic import op

from sendledger.core.online_ddl import creation, exchange_indexes, outside_of_a_transaction

revision = "0053"
down_revision = "0052"

TABLES = """
CREATE TABLE removals (
    campaign_id uuid NOT NULL,
    kind text NOT NULL,
    began_at timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz,
    after_id bigint NOT NULL DEFAULT 0,
    after_sent_at timestamp,
    rows_removed bigint NOT NULL DEFAULT 0,
    CONSTRAINT removals_pkey PRIMARY KEY (campaign_id, kind),
    CONSTRAINT removals_campaign_id_fkey FOREIGN KEY (campaign_id) REFERENCES campaigns (id) ON DELETE CASCADE,
    CONSTRAINT removals_kind_check CHECK (kind IN ('content', 'events', 'ledger'))
);
CREATE TABLE removed_emails (
    campaign_id uuid NOT NULL,
    revision smallint NOT NULL,
    step_number integer NOT NULL,
    variant smallint NOT NULL,
    sender_id uuid NOT NULL,
    sending_day date NOT NULL,
    status text NOT NULL,
    emails bigint NOT NULL,
    delivered bigint NOT NULL,
    opened bigint NOT NULL,
    clicked bigint NOT NULL,
    replied bigint NOT NULL,
    bounced bigint NOT NULL,
    soft_bounced bigint NOT NULL,
    complained bigint NOT NULL,
    unsubscribed bigint NOT NULL,
    CONSTRAINT removed_emails_pkey PRIMARY KEY (campaign_id, revision, step_number, variant, sender_id, sending_day,
        status),
    CONSTRAINT removed_emails_campaign_id_fkey FOREIGN KEY (campaign_id) REFERENCES campaigns (id) ON DELETE CASCADE,
    CONSTRAINT removed_emails_status_check CHECK (status IN ('sent', 'failed', 'skipped', 'cancelled'))
);
CREATE INDEX removed_emails_sender_id_idx ON removed_emails (sender_id, sending_day);
CREATE TABLE past_contacts (
    lead_id uuid NOT NULL,
    campaign_id uuid NOT NULL,
    last_sent_at timestamptz,
    received boolean NOT NULL,
    opened boolean NOT NULL,
    clicked boolean NOT NULL,
    bounced boolean NOT NULL,
    CONSTRAINT past_contacts_pkey PRIMARY KEY (lead_id, campaign_id),
    CONSTRAINT past_contacts_lead_id_fkey FOREIGN KEY (lead_id) REFERENCES leads (id) ON DELETE CASCADE
);
CREATE TABLE retention_state (
    id smallint NOT NULL DEFAULT 1,
    last_run_at timestamptz NOT NULL,
    rows_removed jsonb NOT NULL,
    campaigns_waiting integer NOT NULL,
    CONSTRAINT retention_state_pkey PRIMARY KEY (id),
    CONSTRAINT retention_state_single_row_check CHECK (id = 1)
);
"""
INDEXES = {
    # Replies whose content is kept, oldest first.
    "replies_with_content_idx": "replies (created_at) WHERE body_text <> '' OR subject <> ''",
    "unsubscribes_scheduled_email_id_idx": "unsubscribes (scheduled_email_id)",
}


def upgrade() -> None:
    # The indexes first: if their building is interrupted, the whole revision can be tried again.
    outside_of_a_transaction(*creation(INDEXES))
    op.get_bind().exec_driver_sql(TABLES)


def downgrade() -> None:
    exchange_indexes(INDEXES)
    op.execute("DROP TABLE removals, removed_emails, past_contacts, retention_state")
