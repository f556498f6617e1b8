"""Sending schedules, and the lanes that emails wait in for an opening."""

from __future__ import annotations

from alembic import op

revision = "0028"
down_revision = "0027"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE sending_schedules (
            id UUID NOT NULL DEFAULT gen_random_uuid(),
            name VARCHAR(255) NOT NULL,
            time_zone VARCHAR(64) NOT NULL,
            zone_of TEXT NOT NULL,
            hours JSONB NOT NULL,
            holidays DATE[] NOT NULL DEFAULT '{}',
            revision INTEGER NOT NULL DEFAULT 1,
            created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
            updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
            CONSTRAINT sending_schedules_pkey PRIMARY KEY (id),
            CONSTRAINT sending_schedules_zone_of_check CHECK (zone_of IN ('lead', 'schedule'))
        );
        -- A campaign keeps its schedule for ever: one that lost it would send at any time.
        ALTER TABLE campaigns ADD COLUMN sending_schedule_id UUID
            CONSTRAINT campaigns_sending_schedule_id_fkey REFERENCES sending_schedules (id);
        CREATE INDEX campaigns_sending_schedule_id_idx ON campaigns (sending_schedule_id)
            WHERE sending_schedule_id IS NOT NULL;
        CREATE TABLE campaign_lanes (
            campaign_id UUID NOT NULL,
            lane SMALLINT NOT NULL,
            time_zone VARCHAR(64),
            CONSTRAINT campaign_lanes_pkey PRIMARY KEY (campaign_id, lane),
            CONSTRAINT campaign_lanes_campaign_id_fkey FOREIGN KEY (campaign_id) REFERENCES campaigns (id)
                ON DELETE CASCADE,
            CONSTRAINT campaign_lanes_lane_positive_check CHECK (lane > 0)
        );
        CREATE UNIQUE INDEX campaign_lanes_zone_key ON campaign_lanes (campaign_id, coalesce(time_zone, ''));
        -- Revision 0033 makes the index of the lanes.
        ALTER TABLE scheduled_emails ADD COLUMN lane SMALLINT NOT NULL DEFAULT 0;
    """)


def downgrade() -> None:
    op.execute("""
        ALTER TABLE scheduled_emails DROP COLUMN lane;
        DROP TABLE campaign_lanes;
        ALTER TABLE campaigns DROP COLUMN sending_schedule_id;
        DROP TABLE sending_schedules;
    """)
