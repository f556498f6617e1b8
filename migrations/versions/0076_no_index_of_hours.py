"""The overview reads the counts of days, so nothing reads the index of hours."""

from __future__ import annotations

from sendledger.core.online_ddl import exchange_indexes, outside_of_a_transaction, removal

revision = "0076"
down_revision = "0075"

INDEXES = {"campaign_counts_hour_idx": "campaign_counts (hour) WHERE hour > '-infinity'"}


def upgrade() -> None:
    outside_of_a_transaction(*removal(INDEXES))


def downgrade() -> None:
    exchange_indexes([], INDEXES)
