"""A scheduled campaign has something to send, while a draft may not have it yet.

One without could be scheduled before, and would fail at its time. It fails now.
"""

from __future__ import annotations

from alembic import op

from sendledger.core.online_ddl import outside_of_a_transaction

revision = "0081"
down_revision = "0080"

CHECK = "campaigns_scheduled_content_check"
# Without the name a trigger takes this for a change by the application that used this database before.
STOP = """
DO $$ BEGIN
    SET LOCAL application_name = 'sendledger';
    UPDATE campaigns SET status = 'failed', failed_at = now(),
        failure_reason = 'It could not start: it has neither an email template nor a workflow.'
    WHERE status = 'scheduled' AND email_template_id IS NULL AND workflow_id IS NULL;
END $$
"""


def upgrade() -> None:
    """Several transactions, each of which can be repeated: looking at all rows must not block writers."""
    op.execute(f"""
        ALTER TABLE campaigns DROP CONSTRAINT IF EXISTS {CHECK};
        ALTER TABLE campaigns ADD CONSTRAINT {CHECK} CHECK (
            status <> 'scheduled' OR email_template_id IS NOT NULL OR workflow_id IS NOT NULL) NOT VALID;
    """)
    outside_of_a_transaction(STOP, f"ALTER TABLE campaigns VALIDATE CONSTRAINT {CHECK}")


def downgrade() -> None:
    op.execute(f"ALTER TABLE campaigns DROP CONSTRAINT {CHECK}")
