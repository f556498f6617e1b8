"""What happened on each day is counted over all campaigns, by triggers on the counts of each campaign.

The overview of 30 days read each hour of each campaign. The next revision counts what there is already: the lock that
the triggers need is held for a moment only.
"""

from __future__ import annotations

from alembic import op

revision = "0074"
down_revision = "0073"

TABLE = """
CREATE TABLE daily_counts (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    day DATE NOT NULL,
    what TEXT NOT NULL,
    count BIGINT NOT NULL,
    is_total BOOLEAN DEFAULT false NOT NULL,
    CONSTRAINT daily_counts_pkey PRIMARY KEY (id)
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE UNIQUE INDEX daily_counts_total_key ON daily_counts (day, what) WHERE is_total;
CREATE INDEX daily_counts_day_idx ON daily_counts (day);
"""
ROWS = {
    "INSERT": "NEW TABLE AS new_rows",
    "UPDATE": "NEW TABLE AS new_rows OLD TABLE AS old_rows",
    "DELETE": "OLD TABLE AS old_rows",
}
NEW = "SELECT hour, what, count AS n FROM new_rows"
OLD = "SELECT hour, what, -count AS n FROM old_rows"


def _insert(changes: str) -> str:
    # What has no time is of no day.
    return f"""
        INSERT INTO daily_counts (day, what, count)
        SELECT CAST(hour AT TIME ZONE 'UTC' AS date), what, sum(n) FROM ({changes}) changes
        WHERE hour > '-infinity' GROUP BY 1, 2 HAVING sum(n) <> 0;
    """


# It runs as its owner: the users of the functions that write counts may not write these.
FUNCTION = f"""
CREATE FUNCTION count_days() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN {_insert(NEW)}
    ELSIF TG_OP = 'UPDATE' THEN {_insert(f"{NEW} UNION ALL {OLD}")}
    ELSE {_insert(OLD)}
    END IF;
    RETURN NULL;
END $$;
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION count_days() SET search_path = %I, pg_temp', current_schema());
END $$;
"""
TRIGGER = """
CREATE TRIGGER campaign_counts_days_{name} AFTER {event} ON campaign_counts REFERENCING {rows}
    FOR EACH STATEMENT EXECUTE FUNCTION count_days();
"""


def upgrade() -> None:
    run = op.get_bind().exec_driver_sql
    run(TABLE)
    run(FUNCTION)
    for event, rows in ROWS.items():
        run(TRIGGER.format(name=event.lower(), event=event, rows=rows))


def downgrade() -> None:
    for event in ROWS:
        op.execute(f"DROP TRIGGER campaign_counts_days_{event.lower()} ON campaign_counts")
    op.execute("DROP FUNCTION count_days()")
    op.execute("DROP TABLE daily_counts")
