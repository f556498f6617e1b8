"""A lead can be taken out of a campaign that runs: its scheduled emails are cancelled with a reason of their own."""

from __future__ import annotations

from alembic import op

revision = "0031"
down_revision = "0030"

BEFORE = (
    *("paused", "campaign_cancelled", "no_address", "invalid_address", "duplicate_address", "lead_deleted"),
    *("lead_erased", "lead_responded", "lead_not_interested", "lead_converted", "lead_invalid", "suppressed"),
    *("replied", "previous_step_failed", "later_step_sent", "skipped_before", "late"),
)


def upgrade() -> None:
    _allow(*BEFORE, "lead_removed")


def downgrade() -> None:
    op.execute("UPDATE scheduled_emails SET reason = 'campaign_cancelled' WHERE reason = 'lead_removed'")
    _allow(*BEFORE)


def _allow(*reasons: str) -> None:
    # Not valid: looking at the existing rows while the table is locked would block its readers too. Revision 0039 looks.
    words = ", ".join(f"'{reason}'" for reason in reasons)
    op.execute(f"""
        ALTER TABLE scheduled_emails DROP CONSTRAINT scheduled_emails_reason_check;
        ALTER TABLE scheduled_emails ADD CONSTRAINT scheduled_emails_reason_check CHECK (reason IN ({words})) NOT VALID;
    """)
