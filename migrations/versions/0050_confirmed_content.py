"""The content that a person has confirmed for a start at a later time."""

from __future__ import annotations

from alembic import op

revision = "0050"
down_revision = "0049"


def upgrade() -> None:
    op.execute("ALTER TABLE campaigns ADD confirmed_content text")


def downgrade() -> None:
    op.execute("ALTER TABLE campaigns DROP confirmed_content")
