"""Finds leads of the demo. Nobody has their addresses: at a real SES, mail to them bounces."""

from __future__ import annotations

import sqlalchemy as sa

from local.demo import load_demo, past_campaigns

# A lead batch that only has one of these names has other addresses. Erased leads have none.
_ARE_IN = sa.text("""
    SELECT EXISTS (
        SELECT FROM lead_batches b JOIN leads l ON l.batch_id = b.id
        WHERE b.name = ANY(:names) AND l.email LIKE '%.example')
""").bindparams(sa.bindparam("names", [load_demo.LEADS, *past_campaigns.CAMPAIGNS.values()], sa.ARRAY(sa.Text)))


def are_in(connection: sa.Connection) -> bool:
    """Whether the database has any, so that some campaign could send to them."""
    return bool(connection.scalar(_ARE_IN))
