"""What SES reports about emails, the counters made of it, and when a campaign is to be paused for it."""

from alembic import op

from sendledger.core.online_ddl import creation, outside_of_a_transaction

revision = "0008"
down_revision = "0007"

COUNTERS = (
    "emails_delivered_count",
    "emails_bounced_count",
    "emails_complained_count",
    "emails_opened_count",
    "emails_clicked_count",
    "emails_unsubscribed_count",
    "emails_replied_count",
)

UPGRADE = f"""
CREATE TABLE email_events (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    event_key TEXT NOT NULL,
    scheduled_email_id BIGINT,
    email_id UUID,
    campaign_id UUID,
    lead_id UUID,
    ses_message_id TEXT NOT NULL,
    event_type TEXT NOT NULL,
    occurred_at TIMESTAMPTZ NOT NULL,
    received_at TIMESTAMPTZ DEFAULT now() NOT NULL,
    is_machine BOOLEAN DEFAULT false NOT NULL,
    detail JSONB DEFAULT '{{}}' NOT NULL,
    CONSTRAINT email_events_pkey PRIMARY KEY (id),
    CONSTRAINT email_events_event_key_key UNIQUE (event_key),
    CONSTRAINT email_events_event_type_check CHECK (event_type IN ('Send', 'Delivery', 'Bounce', 'Complaint', 'Reject',
        'Open', 'Click', 'Rendering Failure', 'DeliveryDelay', 'Subscription'))
);
CREATE INDEX email_events_scheduled_email_id_idx ON email_events (scheduled_email_id);
CREATE INDEX email_events_lead_id_occurred_at_idx ON email_events (lead_id, occurred_at);
CREATE INDEX email_events_complaints_idx ON email_events (campaign_id, occurred_at)
        WHERE event_type IN ('Bounce', 'Complaint');
ALTER TABLE campaigns
    {", ".join(f"ADD {counter} integer NOT NULL DEFAULT 0" for counter in COUNTERS)},
    ADD guardrails jsonb NOT NULL DEFAULT '{{}}';
CREATE INDEX scheduled_emails_failed_idx ON scheduled_emails (campaign_id, failed_at) WHERE status = 'failed';
"""
DOWNGRADE = f"""
DROP INDEX scheduled_emails_failed_idx;
ALTER TABLE campaigns {", ".join(f"DROP {counter}" for counter in COUNTERS)}, DROP guardrails;
DROP TABLE email_events;
"""


def upgrade() -> None:
    # The index first: if its building is interrupted, the whole revision can be tried again.
    outside_of_a_transaction(*creation({"emails_campaign_id_sent_at_idx": "emails (campaign_id, sent_at)"}))
    op.get_bind().exec_driver_sql(UPGRADE)


def downgrade() -> None:
    op.execute("DROP INDEX emails_campaign_id_sent_at_idx")
    op.get_bind().exec_driver_sql(DOWNGRADE)
