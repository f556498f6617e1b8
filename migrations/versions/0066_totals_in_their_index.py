"""The index of totals has the counts, so that the progress of many campaigns is read from it alone."""

from __future__ import annotations

from alembic import op

from sendledger.core.online_ddl import outside_of_a_transaction

revision = "0066"
down_revision = "0065"

NAME = "campaign_counts_total_key"
COLUMNS = "campaign_counts (campaign_id, what, step_number, hour)"
FINISH = f"""
DO $$ BEGIN
    IF to_regclass('{NAME}') IS NULL AND to_regclass('{NAME}_next') IS NOT NULL THEN
        ALTER INDEX {NAME}_next RENAME TO {NAME};
    END IF;
END $$
"""


def upgrade() -> None:
    """Uniqueness is never given up: the index before stays until the new one is there."""
    outside_of_a_transaction(
        # What an interrupted run has left behind: the only index, if it was interrupted before the last statement.
        FINISH,
        f"DROP INDEX CONCURRENTLY IF EXISTS {NAME}_next",
        f"CREATE UNIQUE INDEX CONCURRENTLY {NAME}_next ON {COLUMNS} INCLUDE (count) WHERE is_total",
        f"DROP INDEX CONCURRENTLY IF EXISTS {NAME}",
        f"ALTER INDEX {NAME}_next RENAME TO {NAME}",
    )


def downgrade() -> None:
    op.execute(f"DROP INDEX {NAME}")
    op.execute(f"CREATE UNIQUE INDEX {NAME} ON {COLUMNS} WHERE is_total")
