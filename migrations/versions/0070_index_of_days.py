"""What counted against the caps on days that are long over is added up, found by an index."""

from __future__ import annotations

from sendledger.core.online_ddl import creation, exchange_indexes, outside_of_a_transaction

revision = "0070"
down_revision = "0069"

INDEXES = {
    "cap_uses_day_idx": ("cap_uses (day) WHERE is_total AND campaign_id <> '00000000-0000-0000-0000-000000000000'")
}


def upgrade() -> None:
    outside_of_a_transaction(*creation(INDEXES))


def downgrade() -> None:
    exchange_indexes(INDEXES)
