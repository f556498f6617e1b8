"""Indexes for foreign keys whose parents are deleted in large numbers or whose table is large.

Without them each deleted lead reads all of the old application's table of sources, and each deleted campaign all
suppressions.
"""

from sendledger.core.online_ddl import creation, exchange_indexes, outside_of_a_transaction

revision = "0030"
down_revision = "0029"

INDEXES = {
    "lead_source_roi_lead_id_idx": "lead_source_roi (lead_id)",
    # Most suppressions are about every campaign.
    "suppressions_campaign_id_idx": "suppressions (campaign_id) WHERE campaign_id IS NOT NULL",
}


def upgrade() -> None:
    outside_of_a_transaction(*creation(INDEXES))


def downgrade() -> None:
    exchange_indexes(INDEXES)
