"""What there was before the triggers of 0068 is counted, beside senders at work.

Nothing is locked. A change of a row and its count are committed together, so one statement sees both or neither: what
the ledger says, less what the triggers have counted, is what is missing.
"""

from __future__ import annotations

from alembic import op

revision = "0069"
down_revision = "0068"

NOBODY = "'00000000-0000-0000-0000-000000000000'::uuid"
KEY = f"""e.campaign_id, e.revision, e.workflow_step_number AS step_number, coalesce(e.variant, 0) AS variant,
               coalesce(l.sender_id, {NOBODY}) AS sender_id"""
LANE = "LEFT JOIN campaign_lanes l ON l.campaign_id = e.campaign_id AND l.lane = e.lane"
COUNTED = "(e.revision > 1 OR e.variant IS NOT NULL OR l.sender_id IS NOT NULL)"
# Of rows that retention has removed, what was reported is in their totals.
COUNT = f"""
    INSERT INTO result_counts (campaign_id, revision, step_number, variant, sender_id, what, count)
    SELECT campaign_id, revision, step_number, variant, sender_id, what, sum(n) FROM (
        SELECT {KEY}, counted.what, 1 AS n FROM scheduled_emails e {LANE}
        CROSS JOIN LATERAL (VALUES ('emails'), (
            CASE WHEN e.status IN ('sent', 'failed', 'skipped', 'cancelled') THEN e.status END)) counted (what)
        WHERE {COUNTED} AND counted.what IS NOT NULL
        UNION ALL
        SELECT {KEY}, happened.what, 1 FROM emails m JOIN scheduled_emails e ON e.id = m.scheduled_email_id {LANE}
        CROSS JOIN LATERAL (VALUES
            ('delivered', m.delivered_at IS NOT NULL), ('opened', m.opened_at IS NOT NULL),
            ('clicked', m.clicked_at IS NOT NULL), ('bounced', m.bounced_at IS NOT NULL),
            ('soft_bounced', m.soft_bounced_at IS NOT NULL),
            ('complained', coalesce(m.delivery_status = 'complained', false))) happened (what, has)
        WHERE {COUNTED} AND happened.has
        UNION ALL
        SELECT g.campaign_id, g.revision, g.step_number, g.variant, g.sender_id, happened.what, happened.n
        FROM removed_emails g CROSS JOIN LATERAL (VALUES
            ('delivered', g.delivered), ('opened', g.opened), ('clicked', g.clicked), ('bounced', g.bounced),
            ('soft_bounced', g.soft_bounced), ('complained', g.complained)) happened (what, n)
        WHERE g.revision > 1 OR g.variant > 0 OR g.sender_id <> {NOBODY}
        UNION ALL
        SELECT campaign_id, revision, step_number, variant, sender_id, what, -count FROM result_counts
    ) counts GROUP BY 1, 2, 3, 4, 5, 6 HAVING sum(n) <> 0
    ORDER BY 1  -- as everything that locks several campaigns does
"""


def upgrade() -> None:
    op.execute(COUNT)


def downgrade() -> None:
    pass
