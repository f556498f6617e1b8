"""Uploaded files can be checked before they are imported."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0056"
down_revision = "0055"

CHECK = "lead_batches_status_check"
BEFORE = "('pending', 'importing', 'completed', 'failed', 'deleting')"
AFTER = "('pending', 'checking', 'checked', 'importing', 'completed', 'failed', 'deleting')"


def _replace(values: str) -> None:
    op.execute(f"""
        ALTER TABLE lead_batches DROP CONSTRAINT {CHECK};
        ALTER TABLE lead_batches ADD CONSTRAINT {CHECK} CHECK (status IN {values}) NOT VALID
    """)
    # In a later transaction: looking at the existing rows while the table is locked would block its readers.
    with op.get_context().autocommit_block():
        op.execute("COMMIT")
        op.execute(sa.text(f"ALTER TABLE lead_batches VALIDATE CONSTRAINT {CHECK}"))


def upgrade() -> None:
    _replace(AFTER)


def downgrade() -> None:
    # The release before does not know these; the upload can be repeated.
    op.execute("""
        UPDATE lead_batches SET status = 'failed', failure_reason = 'The file was checked and not imported.'
        WHERE status IN ('checking', 'checked')
    """)
    _replace(BEFORE)
