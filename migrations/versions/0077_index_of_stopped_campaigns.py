"""Campaigns that are stopped for a reason are found by an index, however old they are."""

from __future__ import annotations

from sendledger.core.online_ddl import creation, exchange_indexes, outside_of_a_transaction

revision = "0077"
down_revision = "0076"

INDEXES = {"campaigns_failure_reason_idx": "campaigns (id) WHERE failure_reason IS NOT NULL"}


def upgrade() -> None:
    outside_of_a_transaction(*creation(INDEXES))


def downgrade() -> None:
    exchange_indexes(INDEXES)
