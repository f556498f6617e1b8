"""What became of a campaign's emails by revision, step, variant and sender, without reading the ledger.

Triggers count in `result_counts` what there are several of: rows of a later revision, of a variant, or with a sender.
What is left of the counts by step is of the first revision, without variant and sender. Rows that retention has removed
are in `removed_emails`. How many are being sent is seen from the claims under way.
"""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from sendledger.core.ledger_rules import is_sending
from sendledger.core.vocabulary import TERMINAL_STATUSES, ScheduledEmailStatus

DetailedResults = dict[tuple[int, int, int | None, uuid.UUID | None], dict[str, Any]]
"""By revision, step, variant and sender: `by_status`, and the results by name."""

_NOBODY = "CAST('00000000-0000-0000-0000-000000000000' AS uuid)"
_OF_ROW = f"e.revision, e.workflow_step_number, coalesce(e.variant, 0), coalesce(l.sender_id, {_NOBODY})"
_LANE = "LEFT JOIN campaign_lanes l ON l.campaign_id = e.campaign_id AND l.lane = e.lane"
_COUNTED = "(e.revision > 1 OR e.variant IS NOT NULL OR l.sender_id IS NOT NULL)"
_RESULTS = sa.text(f"""
    SELECT revision, step_number, nullif(variant, 0) AS variant, nullif(sender_id, {_NOBODY}) AS sender_id, what,
           CAST(sum(n) AS bigint) AS n
    FROM (
        SELECT revision, step_number, variant, sender_id, what, count AS n FROM result_counts
        WHERE campaign_id = :campaign_id AND (revision > 1 OR variant > 0 OR sender_id <> {_NOBODY})
        UNION ALL
        SELECT {_OF_ROW}, 'sending', 1 FROM scheduled_emails e {_LANE}
        WHERE e.campaign_id = :campaign_id AND {is_sending("e")} AND {_COUNTED}
        UNION ALL
        SELECT g.revision, g.step_number, g.variant, g.sender_id, kept.what, kept.n
        FROM removed_emails g CROSS JOIN LATERAL (
            VALUES ('emails', g.emails), (g.status, g.emails)) kept (what, n)
        WHERE g.campaign_id = :campaign_id AND (g.revision > 1 OR g.variant > 0 OR g.sender_id <> {_NOBODY})
    ) counts GROUP BY 1, 2, 3, 4, 5 HAVING sum(n) <> 0
""").bindparams(sa.bindparam("campaign_id", type_=sa.UUID))


def detailed_results(
    connection: sa.Connection,
    campaign_id: uuid.UUID,
    by_step: Mapping[int, Mapping[str, int]],
    results: Mapping[int, Mapping[str, int]],
) -> DetailedResults:
    """`by_step` has the counts of each step by status, `results` those of what came back, by name."""
    found: DetailedResults = {}
    counted: dict[int, Counter[str]] = defaultdict(Counter)
    rows = connection.execute(_RESULTS, {"campaign_id": campaign_id}).all()
    counts: dict[tuple[int, int, int | None, uuid.UUID | None], Counter[str]] = defaultdict(Counter)
    for row in rows:
        counts[row.revision, row.step_number, row.variant, row.sender_id][row.what] = row.n
    for key, own in counts.items():
        known: tuple[str, ...] = (*TERMINAL_STATUSES, ScheduledEmailStatus.SENDING)
        by_status = {status: own.pop(status, 0) for status in known}
        by_status[ScheduledEmailStatus.PENDING] = max(0, own.pop("emails", 0) - sum(by_status.values()))
        found[key] = {"by_status": by_status, **own}
        counted[key[1]].update({**by_status, **own})
    for step, statuses in by_step.items():
        own = counted[step]
        has_others = sum(statuses.values()) > sum(own[status] for status in statuses)
        left = _left(statuses, own) if has_others else {}
        came_back = _left(results.get(step, {}), own)
        if has_others or any(came_back.values()):
            found[1, step, None, None] = {"by_status": left, **came_back}
    return found


def _left(counts: Mapping[str, int], counted: Mapping[str, int]) -> dict[str, int]:
    """What is counted in one place only. Never less than nothing: senders work on between the two counts."""
    return {name: max(0, count - counted[name]) for name, count in counts.items()}
