"""Uploaded files can be checked before they are imported."""

from __future__ import annotations

from alembic import op

from sendledger.core.online_ddl import outside_of_a_transaction

revision = "0056"
down_revision = "0055"

CHECK = "lead_batches_status_check"
BEFORE = "('pending', 'importing', 'completed', 'failed', 'deleting')"
AFTER = "('pending', 'checking', 'checked', 'importing', 'completed', 'failed', 'deleting')"


REPLACE = f"""
    ALTER TABLE lead_batches DROP CONSTRAINT {CHECK};
    ALTER TABLE lead_batches ADD CONSTRAINT {CHECK} CHECK (status IN {{}})
"""


def upgrade() -> None:
    op.execute(f"{REPLACE.format(AFTER)} NOT VALID")
    # In a later transaction: looking at the existing rows while the table is locked would block its readers.
    outside_of_a_transaction(f"ALTER TABLE lead_batches VALIDATE CONSTRAINT {CHECK}")


def downgrade() -> None:
    # The release before does not know these; the upload can be repeated.
    op.execute("""
        UPDATE lead_batches SET status = 'failed', failure_reason = 'The file was checked and not imported.'
        WHERE status IN ('checking', 'checked')
    """)
    op.execute(REPLACE.format(BEFORE))
