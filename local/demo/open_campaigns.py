"""Finds campaigns to the demo's leads that could still send. Nobody has the addresses: at a real SES they bounce."""

from __future__ import annotations

import sqlalchemy as sa

from local.demo import load_demo, past_campaigns
from sendledger.core.vocabulary import OPEN_CAMPAIGN_STATUSES, quoted

# A campaign that a person has made for these leads is one of them.
_OPEN = sa.text(f"""
    SELECT name FROM campaigns
    WHERE CAST(status AS text) IN ({quoted(OPEN_CAMPAIGN_STATUSES)})
      AND (name = ANY(:names) OR batch_ids && ARRAY(SELECT id FROM lead_batches WHERE name = ANY(:batches)))
    ORDER BY created_at DESC, name
""").bindparams(
    sa.bindparam("names", [load_demo.CAMPAIGN, *past_campaigns.CAMPAIGNS], sa.ARRAY(sa.Text)),
    sa.bindparam("batches", [load_demo.LEADS, *past_campaigns.CAMPAIGNS.values()], sa.ARRAY(sa.Text)),
)


def open_campaigns(connection: sa.Connection) -> list[str]:
    """Their names, the newest first."""
    return list(connection.scalars(_OPEN))
