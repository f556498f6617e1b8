"""The words of the field: background work in place of row work, leads left out in place of leads excluded.

The reasons of the ledger get a CHECK. Renaming breaks the rule that migrations only add; no release knew the old names.
"""

from __future__ import annotations

from alembic import op

revision = "0018"
down_revision = "0017"

# The status guard writes the renamed column. Its text is the one of 0006b in every other respect.
RENAME_IN_STATUS_GUARD = """
DO $$ BEGIN
    EXECUTE replace(pg_get_functiondef('guard_campaign_status'::regproc), '{old}', '{new}');
END $$
"""


def upgrade() -> None:
    op.execute("""
        ALTER TABLE campaigns RENAME row_work TO background_work;
        ALTER TABLE campaigns RENAME leads_excluded TO leads_left_out;
        ALTER TABLE campaigns RENAME CONSTRAINT campaigns_completed_without_row_work_check
            TO campaigns_completed_without_background_work_check;
    """)
    op.execute(RENAME_IN_STATUS_GUARD.format(old="row_work", new="background_work"))
    # Not valid first: looking at the existing rows then blocks no writer.
    op.execute("""
        ALTER TABLE scheduled_emails ADD CONSTRAINT scheduled_emails_reason_check CHECK (reason IN (
            'paused', 'campaign_cancelled', 'no_address', 'invalid_address', 'duplicate_address', 'lead_deleted',
            'lead_erased', 'lead_responded', 'lead_not_interested', 'lead_converted', 'lead_invalid', 'suppressed',
            'replied', 'previous_step_failed', 'later_step_sent', 'late')) NOT VALID;
        ALTER TABLE scheduled_emails VALIDATE CONSTRAINT scheduled_emails_reason_check;
    """)


def downgrade() -> None:
    op.execute("""
        ALTER TABLE scheduled_emails DROP CONSTRAINT scheduled_emails_reason_check;
        ALTER TABLE campaigns RENAME CONSTRAINT campaigns_completed_without_background_work_check
            TO campaigns_completed_without_row_work_check;
        ALTER TABLE campaigns RENAME leads_left_out TO leads_excluded;
        ALTER TABLE campaigns RENAME background_work TO row_work;
    """)
    op.execute(RENAME_IN_STATUS_GUARD.format(old="background_work", new="row_work"))
