"""Steps that depend on what became of an earlier one."""

from __future__ import annotations

from alembic import op

revision = "0035"
down_revision = "0034"

BEFORE = (
    *("paused", "campaign_cancelled", "no_address", "invalid_address", "duplicate_address", "lead_deleted"),
    *("lead_erased", "lead_responded", "lead_not_interested", "lead_converted", "lead_invalid", "suppressed"),
    *("replied", "previous_step_failed", "later_step_sent", "skipped_before", "late", "lead_removed"),
)
EVENTS = "('opened', 'clicked', 'delivered', 'not_opened', 'not_clicked')"


def upgrade() -> None:
    for table in ("workflow_steps", "campaign_steps"):
        op.execute(f"""
            ALTER TABLE {table}
                ADD only_if_event text CONSTRAINT {table}_only_if_event_check CHECK (only_if_event IN {EVENTS}),
                ADD only_if_step integer,
                ADD CONSTRAINT {table}_only_if_whole_check CHECK ((only_if_event IS NULL) = (only_if_step IS NULL))
        """)
    op.execute("""
        ALTER TABLE campaign_steps ADD CONSTRAINT campaign_steps_only_if_earlier_check
            CHECK (only_if_step > 0 AND only_if_step < step_number)
    """)
    _allow(*BEFORE, "condition_not_met")


def downgrade() -> None:
    op.execute("UPDATE scheduled_emails SET reason = 'skipped_before' WHERE reason = 'condition_not_met'")
    _allow(*BEFORE)
    for table in ("campaign_steps", "workflow_steps"):
        op.execute(f"ALTER TABLE {table} DROP only_if_event CASCADE, DROP only_if_step CASCADE")


def _allow(*reasons: str) -> None:
    # Not valid: looking at the existing rows while the table is locked would block its readers too. Revision 0039 looks.
    words = ", ".join(f"'{reason}'" for reason in reasons)
    op.execute(f"""
        ALTER TABLE scheduled_emails DROP CONSTRAINT scheduled_emails_reason_check;
        ALTER TABLE scheduled_emails ADD CONSTRAINT scheduled_emails_reason_check CHECK (reason IN ({words})) NOT VALID;
    """)
