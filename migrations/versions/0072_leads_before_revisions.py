"""The leads of each revision are split over its variants from its first lead on."""

from __future__ import annotations

from alembic import op

revision = "0072"
down_revision = "0071"


def upgrade() -> None:
    op.execute("ALTER TABLE campaigns ADD leads_before_revision INTEGER DEFAULT 0 NOT NULL")


def downgrade() -> None:
    op.execute("ALTER TABLE campaigns DROP leads_before_revision")
