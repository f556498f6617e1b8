"""The late guard holds lanes. What is held of a campaign stays held as a whole."""

from __future__ import annotations

from alembic import op

revision = "0067"
down_revision = "0066"


def upgrade() -> None:
    op.execute("ALTER TABLE campaign_lanes ADD late_hold_until TIMESTAMPTZ")


def downgrade() -> None:
    op.execute("""
        UPDATE campaigns c SET late_hold_until = greatest(c.late_hold_until, held.until) FROM (
            SELECT campaign_id, max(late_hold_until) AS until FROM campaign_lanes GROUP BY 1) held
        WHERE c.id = held.campaign_id AND held.until IS NOT NULL;
        ALTER TABLE campaign_lanes DROP late_hold_until;
    """)
