"""Senders that have handed their leads over get no new ones."""

from __future__ import annotations

from alembic import op

revision = "0059"
down_revision = "0058"


def upgrade() -> None:
    op.execute("ALTER TABLE campaigns ADD former_sender_ids uuid[] NOT NULL DEFAULT '{}'")


def downgrade() -> None:
    op.execute("ALTER TABLE campaigns DROP former_sender_ids")
