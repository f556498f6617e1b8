"""Steps that wait for business days: days on which the campaign's sending schedule is open."""

from __future__ import annotations

from alembic import op

revision = "0041"
down_revision = "0040"


def upgrade() -> None:
    op.execute("""
        ALTER TABLE workflow_steps
            ADD business_days boolean DEFAULT false NOT NULL,
            ADD CONSTRAINT workflow_steps_delay_or_business_days_check CHECK (delay IS NULL OR NOT business_days)
    """)
    op.execute("""
        ALTER TABLE campaign_steps
            ADD business_days integer CONSTRAINT campaign_steps_business_days_positive_check CHECK (business_days > 0)
    """)


def downgrade() -> None:
    op.execute("ALTER TABLE campaign_steps DROP business_days")
    op.execute("ALTER TABLE workflow_steps DROP business_days CASCADE")
