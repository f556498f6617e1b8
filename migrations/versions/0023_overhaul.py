"""Campaigns of LeadNexConnect's overhaul keep what they said; the ledger gets a reason for what it had left out.

The first revision has put its columns aside as `leadnex_…`. What they hold is copied into the columns of the same names
where those hold nothing yet. Counters of its ledger are not copied: the adoption counts.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"

REASONS = (
    *("paused", "campaign_cancelled", "no_address", "invalid_address", "duplicate_address", "lead_deleted"),
    *("lead_erased", "lead_responded", "lead_not_interested", "lead_converted", "lead_invalid", "suppressed"),
    *("replied", "previous_step_failed", "later_step_sent", "skipped_before", "late"),
)
# What is not a list, or in a list not an id, is left out.
COPY = """
UPDATE campaigns SET
    batch_ids = CASE WHEN batch_ids <> '{}' THEN batch_ids ELSE ARRAY(
        SELECT DISTINCT v::uuid FROM jsonb_array_elements_text(
            CASE jsonb_typeof(leadnex_batch_ids) WHEN 'array' THEN leadnex_batch_ids ELSE '[]' END) v
        WHERE v ~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$' ORDER BY 1) END,
    lead_sources = coalesce(lead_sources, CASE jsonb_typeof(leadnex_lead_sources) WHEN 'array' THEN ARRAY(
        SELECT v FROM jsonb_array_elements_text(leadnex_lead_sources) v WHERE v IS NOT NULL) END),
    max_results_per_run = coalesce(max_results_per_run, leadnex_max_results_per_run),
    use_workflow = use_workflow OR coalesce(leadnex_use_workflow, false),
    is_recurring = is_recurring OR coalesce(leadnex_is_recurring, false),
    recurring_interval = coalesce(recurring_interval, leadnex_recurring_interval),
    next_run_at = coalesce(next_run_at, leadnex_next_run_at AT TIME ZONE 'UTC'),
    outreach_delay_days = greatest(outreach_delay_days, leadnex_outreach_delay_days),
    scheduled_start_at = coalesce(scheduled_start_at, leadnex_scheduled_start_at AT TIME ZONE 'UTC'),
    actual_started_at = coalesce(actual_started_at, leadnex_actual_started_at AT TIME ZONE 'UTC'),
    paused_at = coalesce(paused_at, leadnex_paused_at AT TIME ZONE 'UTC'),
    resumed_at = coalesce(resumed_at, leadnex_resumed_at AT TIME ZONE 'UTC'),
    completed_at = coalesce(completed_at, leadnex_completed_at AT TIME ZONE 'UTC'),
    failed_at = coalesce(failed_at, leadnex_failed_at AT TIME ZONE 'UTC'),
    failure_reason = coalesce(failure_reason, leadnex_failure_reason),
    total_leads_targeted = greatest(total_leads_targeted, least(leadnex_total_leads_targeted, 1000000000)),
    emails_sent_count = greatest(emails_sent_count, least(leadnex_emails_sent_count, 1000000000))
WHERE NOT EXISTS (SELECT FROM campaign_steps s WHERE s.campaign_id = campaigns.id)
"""


def upgrade() -> None:
    _allow(*REASONS)
    columns = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("campaigns")}
    if "leadnex_batch_ids" in columns:
        op.get_bind().exec_driver_sql(COPY)


def downgrade() -> None:
    op.execute("UPDATE scheduled_emails SET reason = 'campaign_cancelled' WHERE reason = 'skipped_before'")
    _allow(*(reason for reason in REASONS if reason != "skipped_before"))


def _allow(*reasons: str) -> None:
    # Not valid first: looking at the existing rows then blocks no writer.
    words = ", ".join(f"'{reason}'" for reason in reasons)
    op.execute(f"""
        ALTER TABLE scheduled_emails DROP CONSTRAINT scheduled_emails_reason_check;
        ALTER TABLE scheduled_emails ADD CONSTRAINT scheduled_emails_reason_check CHECK (reason IN ({words})) NOT VALID;
        ALTER TABLE scheduled_emails VALIDATE CONSTRAINT scheduled_emails_reason_check;
    """)
