"""The program that an export is made for."""

from __future__ import annotations

from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    # No row has a value yet, so there is nothing to validate; the table is small.
    op.execute("""
        ALTER TABLE exports ADD made_for text
            CONSTRAINT exports_made_for_check CHECK (made_for IN ('excel'));
    """)


def downgrade() -> None:
    op.execute("ALTER TABLE exports DROP made_for")
