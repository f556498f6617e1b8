"""The index of unfinished lead batches has those whose file is being checked."""

from __future__ import annotations

from sendledger.core.online_ddl import creation, outside_of_a_transaction

revision = "0065"
down_revision = "0064"

NAME = "lead_batches_unfinished_idx"


def upgrade() -> None:
    _replace("'pending', 'checking', 'importing', 'deleting'")


def downgrade() -> None:
    _replace("'pending', 'importing', 'deleting'")


def _replace(statuses: str) -> None:
    outside_of_a_transaction(*creation({NAME: f"lead_batches (updated_at) WHERE status IN ({statuses})"}))
