"""What came back before the triggers of 0078 is counted, beside senders at work.

Nothing is locked. A change of a row and its count are committed together, so one statement sees both or neither: what the
tables say, less what the triggers have counted, is what is missing.
"""

from __future__ import annotations

from alembic import op

revision = "0079"
down_revision = "0078"

NOBODY = "'00000000-0000-0000-0000-000000000000'::uuid"
KEY = f"""e.campaign_id, e.revision, e.workflow_step_number AS step_number, coalesce(e.variant, 0) AS variant,
               coalesce(l.sender_id, {NOBODY}) AS sender_id"""
LANE = "LEFT JOIN campaign_lanes l ON l.campaign_id = e.campaign_id AND l.lane = e.lane"
# Complaints about emails of a later revision, of a variant or with a sender are counted already.
IS_PLAIN = f"revision = 1 AND variant = 0 AND sender_id = {NOBODY}"
COUNT = f"""
    INSERT INTO result_counts (campaign_id, revision, step_number, variant, sender_id, what, count)
    SELECT campaign_id, revision, step_number, variant, sender_id, what, sum(n) FROM (
        SELECT {KEY}, 'replied' AS what, 1 AS n
        FROM (SELECT DISTINCT m.scheduled_email_id FROM replies r JOIN emails m ON m.id = r.email_id
              WHERE r.automatic IS NULL) answered
        JOIN scheduled_emails e ON e.id = answered.scheduled_email_id {LANE}
        UNION ALL
        SELECT {KEY}, 'unsubscribed', 1 FROM unsubscribes u JOIN scheduled_emails e ON e.id = u.scheduled_email_id {LANE}
        WHERE u.undone_at IS NULL
        UNION ALL
        SELECT {KEY}, 'complained', 1 FROM emails m JOIN scheduled_emails e ON e.id = m.scheduled_email_id {LANE}
        WHERE m.delivery_status = 'complained'
        UNION ALL
        -- Of rows that retention has removed.
        SELECT g.campaign_id, g.revision, g.step_number, g.variant, g.sender_id, kept.what, kept.n
        FROM removed_emails g CROSS JOIN LATERAL (VALUES
            ('replied', g.replied), ('unsubscribed', g.unsubscribed), ('complained', g.complained)) kept (what, n)
        UNION ALL
        SELECT campaign_id, revision, step_number, variant, sender_id, what, -count FROM result_counts
        WHERE what IN ('replied', 'unsubscribed', 'complained')
    ) counts WHERE what <> 'complained' OR {IS_PLAIN}
    GROUP BY 1, 2, 3, 4, 5, 6 HAVING sum(n) <> 0
    ORDER BY 1  -- as everything that locks several campaigns does
"""


def upgrade() -> None:
    op.execute(COUNT)


def downgrade() -> None:
    pass
