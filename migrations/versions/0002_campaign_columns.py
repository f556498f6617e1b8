"""Campaigns get their lifecycle: a text status with more states, start, pause and completion times, counters."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("""
        ALTER TABLE campaigns
            ALTER status DROP DEFAULT,
            ALTER status TYPE text USING status::text,
            ALTER status SET DEFAULT 'draft',
            ALTER campaign_type SET DEFAULT 'outreach',
            ADD lead_sources text[],
            ADD max_results_per_run integer,
            ADD batch_ids uuid[] NOT NULL DEFAULT '{}',
            ADD use_workflow boolean NOT NULL DEFAULT false,
            ADD is_recurring boolean NOT NULL DEFAULT false,
            ADD recurring_interval text,
            ADD next_run_at timestamptz,
            ADD outreach_delay_days integer NOT NULL DEFAULT 0,
            ADD from_address text,
            ADD reply_to_address text,
            ADD start_type text NOT NULL DEFAULT 'manual',
            ADD scheduled_start_at timestamptz,
            ADD actual_started_at timestamptz,
            ADD paused_at timestamptz,
            ADD resumed_at timestamptz,
            ADD completed_at timestamptz,
            ADD cancelled_at timestamptz,
            ADD failed_at timestamptz,
            ADD failure_reason text,
            ADD total_leads_targeted integer NOT NULL DEFAULT 0,
            ADD emails_scheduled_count integer NOT NULL DEFAULT 0,
            ADD emails_sent_count integer NOT NULL DEFAULT 0,
            ADD emails_failed_count integer NOT NULL DEFAULT 0,
            ADD current_workflow_step integer NOT NULL DEFAULT 0,
            ADD leads_excluded jsonb NOT NULL DEFAULT '{}',
            ADD row_work jsonb NOT NULL DEFAULT '[]',
            ADD late_hold_until timestamptz,
            ADD CONSTRAINT campaigns_status_check CHECK (status IN (
                'draft', 'scheduled', 'running', 'paused', 'completed', 'cancelled', 'failed', 'archived', 'active')),
            ADD CONSTRAINT campaigns_campaign_type_check CHECK (
                campaign_type IN ('outreach', 'lead_generation', 'fully_automated', 'automated', 'manual')
                OR status NOT IN ('scheduled', 'running', 'cancelled', 'failed')),
            ADD CONSTRAINT campaigns_start_type_check CHECK (start_type IN ('manual', 'scheduled')),
            ADD CONSTRAINT campaigns_scheduled_start_check CHECK (
                status <> 'scheduled' OR (start_type = 'scheduled' AND scheduled_start_at IS NOT NULL)),
            ADD CONSTRAINT campaigns_completed_without_row_work_check CHECK (
                status <> 'completed' OR row_work = '[]')
    """)
    # Comparisons by an application that still calls the status an enum go on working.
    op.execute("CREATE CAST (campaign_status AS text) WITH INOUT AS IMPLICIT")
    op.execute("""
        CREATE INDEX campaigns_open_idx ON campaigns (id) WHERE status IN ('scheduled', 'running', 'paused')
    """)


def downgrade() -> None:
    # A state that the old application does not know becomes the nearest one in which it leaves the campaign alone.
    op.execute("DROP INDEX campaigns_open_idx")
    op.execute("DROP CAST (campaign_status AS text)")
    op.execute("""
        ALTER TABLE campaigns
            DROP CONSTRAINT campaigns_status_check,
            DROP CONSTRAINT campaigns_campaign_type_check,
            DROP CONSTRAINT campaigns_start_type_check,
            DROP CONSTRAINT campaigns_scheduled_start_check,
            DROP CONSTRAINT campaigns_completed_without_row_work_check,
            ALTER status DROP DEFAULT,
            ALTER status TYPE campaign_status USING (CASE status
                WHEN 'running' THEN 'active' WHEN 'scheduled' THEN 'draft' WHEN 'cancelled' THEN 'archived'
                WHEN 'failed' THEN 'paused' ELSE status END)::campaign_status,
            ALTER status SET DEFAULT 'draft',
            ALTER campaign_type SET DEFAULT 'automated',
            DROP lead_sources, DROP max_results_per_run, DROP batch_ids, DROP use_workflow, DROP is_recurring,
            DROP recurring_interval, DROP next_run_at, DROP outreach_delay_days, DROP from_address,
            DROP reply_to_address, DROP start_type, DROP scheduled_start_at, DROP actual_started_at, DROP paused_at,
            DROP resumed_at, DROP completed_at, DROP cancelled_at, DROP failed_at, DROP failure_reason,
            DROP total_leads_targeted, DROP emails_scheduled_count, DROP emails_sent_count, DROP emails_failed_count,
            DROP current_workflow_step, DROP leads_excluded, DROP row_work, DROP late_hold_until
    """)
