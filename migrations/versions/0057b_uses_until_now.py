"""What counted against the caps before the trigger of 0057 did is added up, beside senders at work.

Nothing is locked. A change of a row and its count are committed together, so one statement sees both or neither: what
the ledger says, less what the trigger has counted, is what is missing. Where the trigger has counted more, rows have been
removed since, and their emails did go.
"""

from __future__ import annotations

from alembic import op

revision = "0057b"
down_revision = "0057"

NOBODY = "'00000000-0000-0000-0000-000000000000'::uuid"
KEY = f"""coalesce({{row}}.sender_id, {NOBODY}) AS sender_id, {{row}}.campaign_id, {{row}}.sending_day AS day,
               {{row}}.workflow_step_number = 1 AS is_first, coalesce({{row}}.company, 0) AS company"""
# By an index, which the next revision removes.
ADD_UP = f"""
    INSERT INTO cap_uses (sender_id, campaign_id, day, is_first, company, count, first_at, last_at, is_total)
    SELECT sender_id, campaign_id, day, is_first, company, sum(n), min(at), max(at), true FROM (
        SELECT {KEY.format(row="e")}, 1 AS n, coalesce(e.sent_at, e.send_started_at, e.updated_at) AS at
        FROM scheduled_emails e
        WHERE e.sending_day IS NOT NULL
          AND (e.status IN ('sending', 'sent') OR coalesce(e.error_code = 'outcome_unknown', false))
        UNION ALL
        SELECT {KEY.format(row="r")}, 1, r.sent_at FROM requeued_sends r
        UNION ALL
        SELECT u.sender_id, u.campaign_id, u.day, u.is_first, u.company, -u.count, NULL FROM cap_uses u
    ) uses GROUP BY 1, 2, 3, 4, 5 HAVING sum(n) > 0
"""


def upgrade() -> None:
    op.execute(ADD_UP)


def downgrade() -> None:
    pass
