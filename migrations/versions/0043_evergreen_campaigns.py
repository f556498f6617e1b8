"""Campaigns that take in leads after their start."""

from __future__ import annotations

from alembic import op

revision = "0043"
down_revision = "0042"


def upgrade() -> None:
    op.execute("""
        ALTER TABLE campaigns
            ADD evergreen boolean NOT NULL DEFAULT false,
            ADD end_at timestamptz,
            ADD intake jsonb,
            ADD next_intake_at timestamptz,
            ADD intake_ended_at timestamptz,
            ADD idle_since timestamptz
    """)


def downgrade() -> None:
    op.execute("""
        ALTER TABLE campaigns
            DROP idle_since, DROP intake_ended_at, DROP next_intake_at, DROP intake, DROP end_at, DROP evergreen
    """)
