"""Answers that people write to replies; their emails are rows of the ledger."""

from __future__ import annotations

from alembic import op

revision = "0034"
down_revision = "0033"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE answers (
            scheduled_email_id bigint PRIMARY KEY REFERENCES scheduled_emails (id) ON DELETE CASCADE,
            reply_id uuid NOT NULL UNIQUE REFERENCES replies (id) ON DELETE CASCADE,
            subject text NOT NULL,
            body_text text NOT NULL,
            in_reply_to text,
            root_id text,
            created_by text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now()
        )
    """)


def downgrade() -> None:
    # The release before this one would send what its placeholder says.
    op.execute("""
        UPDATE scheduled_emails SET status = 'cancelled', reason = 'campaign_cancelled'
        WHERE workflow_step_number > 1000 AND status IN ('pending', 'sending') AND send_started_at IS NULL;
        DROP TABLE answers;
    """)
