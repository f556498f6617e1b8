"""What there was before the triggers of 0074 is counted by day, beside senders at work.

Nothing is locked. A count and its day are committed together, so one statement sees both or neither: what the campaigns
have, less what the triggers have counted, is what is missing.
"""

from __future__ import annotations

from alembic import op

revision = "0075"
down_revision = "0074"

COUNT = """
    INSERT INTO daily_counts (day, what, count)
    SELECT day, what, sum(n) FROM (
        SELECT CAST(hour AT TIME ZONE 'UTC' AS date) AS day, what, count AS n FROM campaign_counts
        WHERE hour > '-infinity'
        UNION ALL
        SELECT day, what, -count FROM daily_counts
    ) counts GROUP BY 1, 2 HAVING sum(n) <> 0
"""


def upgrade() -> None:
    op.execute(COUNT)


def downgrade() -> None:
    pass
