"""What became of the emails of each step of a campaign, without reading the ledger.

Triggers count what is reported of an email in `campaign_counts`, under the negative number of its step, and what else
comes back (replies, complaints and opt-outs) in `result_counts`.
"""

from __future__ import annotations

from uuid import UUID

import sqlalchemy as sa

from sendledger.core.ledger_rules import LAST_STEP

_WITHOUT_STEP = sa.text("""
    SELECT EXISTS (
        SELECT FROM campaign_counts WHERE campaign_id = :campaign_id AND step_number = 0
        GROUP BY what HAVING sum(count) <> 0)
""").bindparams(sa.bindparam("campaign_id", type_=sa.UUID))
_RESULTS = sa.text(f"""
    SELECT step_number, what, CAST(sum(count) AS bigint) FROM (
        SELECT -step_number AS step_number, what, count FROM campaign_counts
        WHERE campaign_id = :campaign_id AND step_number < 0
        UNION ALL
        SELECT step_number, what, count FROM result_counts
        WHERE campaign_id = :campaign_id AND what IN ('replied', 'complained', 'unsubscribed')
    ) came_back
    WHERE step_number <= {LAST_STEP} GROUP BY 1, 2
""").bindparams(sa.bindparam("campaign_id", type_=sa.UUID))


def step_results(connection: sa.Connection, campaign_id: UUID) -> dict[int, dict[str, int]] | None:
    """The counts by step, without those that are zero. None if some of its emails were counted without their step."""
    parameters = {"campaign_id": campaign_id}
    if connection.scalar(_WITHOUT_STEP, parameters):
        return None
    found: dict[int, dict[str, int]] = {}
    for step, what, count in connection.execute(_RESULTS, parameters):
        found.setdefault(step, {})[what] = count
    return found
