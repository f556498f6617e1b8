"""Time zones of leads."""

from __future__ import annotations

from alembic import op

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    op.execute("ALTER TABLE leads ADD COLUMN time_zone VARCHAR(64)")


def downgrade() -> None:
    op.execute("ALTER TABLE leads DROP COLUMN time_zone")
