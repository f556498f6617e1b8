"""Whether a campaign tracks opens and clicks. Those that have started tracked both, and go on."""

from __future__ import annotations

from alembic import op

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    op.execute("""
        ALTER TABLE campaigns
            ADD track_opens boolean NOT NULL DEFAULT false,
            ADD track_clicks boolean NOT NULL DEFAULT false;
        UPDATE campaigns SET track_opens = true, track_clicks = true
        WHERE coalesce(status, 'draft') NOT IN ('draft', 'scheduled', 'failed');
    """)


def downgrade() -> None:
    op.execute("ALTER TABLE campaigns DROP track_clicks, DROP track_opens")
