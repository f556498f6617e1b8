"""Sender addresses with a daily cap, which the leads of a campaign are split over."""

from __future__ import annotations

from alembic import op

revision = "0037"
down_revision = "0036"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE sender_addresses (
            id UUID NOT NULL DEFAULT gen_random_uuid(),
            from_address TEXT NOT NULL,
            address TEXT NOT NULL,
            reply_to_address TEXT,
            daily_cap INTEGER,
            status TEXT NOT NULL DEFAULT 'active',
            created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
            updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
            CONSTRAINT sender_addresses_pkey PRIMARY KEY (id),
            CONSTRAINT sender_addresses_address_key UNIQUE (address),
            CONSTRAINT sender_addresses_status_check CHECK (status IN ('active', 'disabled')),
            CONSTRAINT sender_addresses_daily_cap_positive_check CHECK (daily_cap > 0)
        );
        ALTER TABLE campaigns ADD COLUMN sender_ids UUID[] NOT NULL DEFAULT '{}';
        ALTER TABLE campaign_lanes ADD COLUMN sender_id UUID
                CONSTRAINT campaign_lanes_sender_id_fkey REFERENCES sender_addresses (id),
            ADD COLUMN follow_up BOOLEAN NOT NULL DEFAULT false;
        DROP INDEX campaign_lanes_zone_key;
        CREATE UNIQUE INDEX campaign_lanes_key ON campaign_lanes (campaign_id, coalesce(time_zone, ''),
            coalesce(sender_id, '00000000-0000-0000-0000-000000000000'), follow_up);
        CREATE INDEX campaign_lanes_sender_id_idx ON campaign_lanes (sender_id) WHERE sender_id IS NOT NULL;
        -- Revision 0039 makes their index.
        ALTER TABLE scheduled_emails ADD COLUMN sender_id UUID, ADD COLUMN sending_day DATE;
    """)


def downgrade() -> None:
    op.execute("""
        ALTER TABLE scheduled_emails DROP COLUMN sender_id, DROP COLUMN sending_day;
        DELETE FROM campaign_lanes WHERE sender_id IS NOT NULL;
        ALTER TABLE campaign_lanes DROP COLUMN sender_id, DROP COLUMN follow_up;
        CREATE UNIQUE INDEX campaign_lanes_zone_key ON campaign_lanes (campaign_id, coalesce(time_zone, ''));
        ALTER TABLE campaigns DROP COLUMN sender_ids;
        DROP TABLE sender_addresses;
    """)
