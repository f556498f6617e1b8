"""The ledger: one row per email that a campaign will send, with the content each step had at the start."""

from alembic import op

revision = "0005"
down_revision = "0004"

UPGRADE = """
CREATE TABLE campaign_steps (
    campaign_id UUID NOT NULL,
    step_number INTEGER NOT NULL,
    email_template_id UUID,
    delay INTERVAL NOT NULL,
    subject TEXT NOT NULL,
    body_text TEXT NOT NULL,
    body_html TEXT,
    created_at TIMESTAMPTZ DEFAULT now() NOT NULL,
    CONSTRAINT campaign_steps_pkey PRIMARY KEY (campaign_id, step_number),
    CONSTRAINT campaign_steps_step_number_positive_check CHECK (step_number > 0),
    CONSTRAINT campaign_steps_delay_not_negative_check CHECK (delay >= interval '0'),
    CONSTRAINT campaign_steps_campaign_id_fkey FOREIGN KEY (campaign_id) REFERENCES campaigns (id) ON DELETE CASCADE,
    CONSTRAINT campaign_steps_email_template_id_fkey
        FOREIGN KEY (email_template_id) REFERENCES email_templates (id) ON DELETE SET NULL
);
CREATE TABLE scheduled_emails (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    campaign_id UUID NOT NULL,
    lead_id UUID,
    template_id UUID,
    workflow_id UUID,
    workflow_step_number INTEGER NOT NULL,
    scheduled_for TIMESTAMPTZ NOT NULL,
    status TEXT DEFAULT 'pending' NOT NULL,
    reason TEXT,
    error_code TEXT,
    failure_reason TEXT,
    retry_count SMALLINT DEFAULT 0 NOT NULL,
    lost_claims SMALLINT DEFAULT 0 NOT NULL,
    claim_token UUID,
    lease_until TIMESTAMPTZ,
    send_started_at TIMESTAMPTZ,
    sent_at TIMESTAMPTZ,
    failed_at TIMESTAMPTZ,
    ses_message_id TEXT,
    email_id UUID,
    created_at TIMESTAMPTZ DEFAULT now() NOT NULL,
    updated_at TIMESTAMPTZ DEFAULT now() NOT NULL,
    CONSTRAINT scheduled_emails_pkey PRIMARY KEY (id),
    CONSTRAINT scheduled_emails_lead_id_campaign_id_workflow_step_number_key
        UNIQUE (lead_id, campaign_id, workflow_step_number),
    CONSTRAINT scheduled_emails_status_check
        CHECK (status IN ('pending', 'sending', 'sent', 'failed', 'skipped', 'cancelled')),
    CONSTRAINT scheduled_emails_workflow_step_number_positive_check CHECK (workflow_step_number > 0),
    CONSTRAINT scheduled_emails_sending_is_claimed_check
        CHECK (status <> 'sending' OR (claim_token IS NOT NULL AND lease_until IS NOT NULL)),
    CONSTRAINT scheduled_emails_pending_is_free_check
        CHECK (status <> 'pending' OR (claim_token IS NULL AND send_started_at IS NULL)),
    CONSTRAINT scheduled_emails_sent_has_time_check CHECK (status <> 'sent' OR sent_at IS NOT NULL),
    CONSTRAINT scheduled_emails_failed_has_code_check CHECK (status <> 'failed' OR error_code IS NOT NULL),
    CONSTRAINT scheduled_emails_left_out_has_reason_check
        CHECK (status NOT IN ('skipped', 'cancelled') OR reason IS NOT NULL),
    CONSTRAINT scheduled_emails_campaign_id_fkey
        FOREIGN KEY (campaign_id, workflow_step_number)
        REFERENCES campaign_steps (campaign_id, step_number) ON DELETE CASCADE,
    CONSTRAINT scheduled_emails_lead_id_fkey FOREIGN KEY (lead_id) REFERENCES leads (id) ON DELETE SET NULL,
    CONSTRAINT scheduled_emails_email_id_fkey FOREIGN KEY (email_id) REFERENCES emails (id) ON DELETE SET NULL
);
CREATE INDEX scheduled_emails_campaign_id_id_idx ON scheduled_emails (campaign_id, id);
CREATE INDEX scheduled_emails_due_idx ON scheduled_emails (campaign_id, scheduled_for, id) WHERE status = 'pending';
CREATE INDEX scheduled_emails_email_id_idx ON scheduled_emails (email_id) WHERE email_id IS NOT NULL;
CREATE INDEX scheduled_emails_sending_idx ON scheduled_emails (campaign_id, lease_until) WHERE status = 'sending';
CREATE INDEX scheduled_emails_unknown_idx ON scheduled_emails (id)
        WHERE status = 'failed' AND error_code = 'outcome_unknown';
-- Validated with the indexes (0007): reading every email would keep the table locked.
ALTER TABLE emails
    ADD to_address text,
    ADD scheduled_email_id bigint,
    ADD delivery_status text,
    ADD CONSTRAINT emails_delivery_status_check
        CHECK (delivery_status IN ('sent', 'delayed', 'delivered', 'bounced', 'complained')) NOT VALID;
CREATE TABLE sender_state (
    id SMALLINT DEFAULT 1 NOT NULL,
    deployment_id TEXT,
    last_tick_at TIMESTAMPTZ,
    rate_reserved_until TIMESTAMPTZ DEFAULT now() NOT NULL,
    stopped_until TIMESTAMPTZ,
    stop_code TEXT,
    stop_reason TEXT,
    CONSTRAINT sender_state_pkey PRIMARY KEY (id),
    CONSTRAINT sender_state_single_row_check CHECK (id = 1)
);
INSERT INTO sender_state (id) VALUES (1);
"""
DOWNGRADE = """
DROP TABLE sender_state;
DROP TABLE scheduled_emails;
DROP TABLE campaign_steps;
ALTER TABLE emails DROP to_address, DROP scheduled_email_id, DROP delivery_status;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE)


def downgrade() -> None:
    op.get_bind().exec_driver_sql(DOWNGRADE)
