"""What became of the emails of each step of a campaign, without reading the ledger.

Triggers count what is reported of an email in `campaign_counts`, under the negative number of its step. What else came
back is counted where it is: in `replies`, `unsubscribes` and the complaints of `email_events`, and in `removed_emails`.
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
        SELECT e.workflow_step_number, 'replied', count(DISTINCT m.id)
        FROM replies r JOIN emails m ON m.id = r.email_id JOIN scheduled_emails e ON e.id = m.scheduled_email_id
        WHERE r.campaign_id = :campaign_id AND r.automatic IS NULL GROUP BY 1
        UNION ALL
        SELECT e.workflow_step_number, 'complained', count(DISTINCT v.email_id)
        FROM email_events v JOIN scheduled_emails e ON e.id = v.scheduled_email_id
        WHERE v.campaign_id = :campaign_id AND v.event_type = 'Complaint'
          AND coalesce(v.detail ->> 'feedback_type', '') <> 'not-spam' GROUP BY 1
        UNION ALL
        SELECT e.workflow_step_number, 'unsubscribed', count(DISTINCT u.lead_id)
        FROM unsubscribes u JOIN scheduled_emails e ON e.id = u.scheduled_email_id
        WHERE u.campaign_id = :campaign_id AND u.undone_at IS NULL GROUP BY 1
        UNION ALL
        -- Of rows that retention has removed.
        SELECT g.step_number, kept.what, kept.count FROM removed_emails g CROSS JOIN LATERAL (
            VALUES ('replied', g.replied), ('complained', g.complained), ('unsubscribed', g.unsubscribed)
        ) kept (what, count) WHERE g.campaign_id = :campaign_id AND kept.count > 0
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
