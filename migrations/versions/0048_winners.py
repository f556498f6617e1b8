"""Steps that test their variants with a share of the leads, and send the winner to the others."""

from __future__ import annotations

from alembic import op

revision = "0048"
down_revision = "0047"


def upgrade() -> None:
    op.execute("""
        ALTER TABLE workflow_steps ADD winner jsonb;
        ALTER TABLE campaign_steps ADD winner jsonb, ADD winner_at timestamptz, ADD winner_decided_at timestamptz,
            ADD winner_variant smallint;
        ALTER TABLE campaigns ADD winner_at timestamptz;
        ALTER TABLE scheduled_emails ADD fallback_variant smallint
    """)


def downgrade() -> None:
    # Without a winner, each email that waits gets its part of an equal split.
    op.execute("UPDATE scheduled_emails SET variant = fallback_variant WHERE variant IS NULL AND fallback_variant > 0")
    op.execute("""
        ALTER TABLE scheduled_emails DROP fallback_variant;
        ALTER TABLE campaigns DROP winner_at;
        ALTER TABLE campaign_steps DROP winner, DROP winner_at, DROP winner_decided_at, DROP winner_variant;
        ALTER TABLE workflow_steps DROP winner
    """)
