"""The index of the lanes has no steps that are behind.

A sender of the version before works on, but finds due rows of lanes by reading the ledger of a campaign, until its new
code is there.
"""

from __future__ import annotations

from sendledger.core.online_ddl import creation, exchange_indexes, outside_of_a_transaction, removal

revision = "0062"
down_revision = "0061"

OPEN = "sent_at IS NULL AND failed_at IS NULL AND reason IS NULL"
COLUMNS = "scheduled_emails (campaign_id, lane, scheduled_for, id)"
INDEXES = {"scheduled_emails_in_lane_idx": f"{COLUMNS} WHERE lane > 0 AND is_behind IS NOT TRUE AND {OPEN}"}
INDEXES_BEFORE = {"scheduled_emails_open_lane_idx": f"{COLUMNS} WHERE lane > 0 AND {OPEN}"}


def upgrade() -> None:
    outside_of_a_transaction(*creation(INDEXES), *removal(INDEXES_BEFORE))


def downgrade() -> None:
    exchange_indexes(INDEXES, INDEXES_BEFORE)
