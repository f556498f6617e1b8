"""The index of unfinished lead batches has those whose file is being checked."""

from __future__ import annotations

from sendledger.core.online_ddl import creation, exchange_indexes, outside_of_a_transaction

revision = "0065"
down_revision = "0064"

NAME = "lead_batches_unfinished_idx"
COLUMNS = "lead_batches (updated_at) WHERE status IN"


def upgrade() -> None:
    outside_of_a_transaction(*creation({NAME: f"{COLUMNS} ('pending', 'checking', 'importing', 'deleting')"}))


def downgrade() -> None:
    exchange_indexes([], {NAME: f"{COLUMNS} ('pending', 'importing', 'deleting')"})
