"""Senders whose cap grows and is spread over the day, and campaigns with a limit of new leads a day."""

from __future__ import annotations

from alembic import op

revision = "0045"
down_revision = "0044"


def upgrade() -> None:
    op.execute("""
        ALTER TABLE sender_addresses
            ADD ramp JSONB CONSTRAINT sender_addresses_ramp_grows_check
                CHECK ((ramp ->> 'start')::int > 0 AND (ramp ->> 'step')::int > 0
                       AND (ramp ->> 'ceiling')::int >= (ramp ->> 'start')::int),
            ADD spread BOOLEAN NOT NULL DEFAULT true;
        ALTER TABLE campaigns ADD new_leads_per_day INTEGER, ADD new_leads_per_company_per_day INTEGER,
            ADD CONSTRAINT campaigns_new_leads_positive_check
                CHECK (new_leads_per_day > 0 AND new_leads_per_company_per_day > 0) NOT VALID;
        ALTER TABLE sender_state ADD sending_day_time_zone TEXT NOT NULL DEFAULT 'UTC';
        ALTER TABLE scheduled_emails ADD company BIGINT;
        CREATE TABLE requeued_sends (
            id BIGINT GENERATED ALWAYS AS IDENTITY,
            campaign_id UUID NOT NULL,
            workflow_step_number INTEGER NOT NULL,
            sender_id UUID,
            sending_day DATE NOT NULL,
            company BIGINT,
            sent_at TIMESTAMPTZ NOT NULL,
            CONSTRAINT requeued_sends_pkey PRIMARY KEY (id)
        );
    """)


def downgrade() -> None:
    op.execute("""
        ALTER TABLE sender_addresses DROP ramp, DROP spread;
        ALTER TABLE campaigns DROP new_leads_per_day, DROP new_leads_per_company_per_day;
        ALTER TABLE sender_state DROP sending_day_time_zone;
        ALTER TABLE scheduled_emails DROP company;
        DROP TABLE requeued_sends;
    """)
