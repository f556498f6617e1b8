"""The triggers that count what is reported of emails keep their plans, and find each email's row by its id.

They may: a plan that was made for one row and reads the ledger by an index is right for a thousand. Hence the settings
of the functions. A campaign without senders, variants and later revisions has nothing that is counted in
`result_counts`, and its emails are not looked up for it.
"""

from __future__ import annotations

from alembic import op

revision = "0073"
down_revision = "0072"

FUNCTIONS = ("count_emails", "count_results_of_emails")
SETTINGS = ("enable_seqscan", "enable_hashjoin", "enable_mergejoin")
GUARD = """IF EXISTS (
        SELECT FROM (SELECT DISTINCT campaign_id FROM new_rows) n JOIN campaigns c ON c.id = n.campaign_id
        WHERE c.revision > 1 OR EXISTS (SELECT FROM campaign_lanes l WHERE l.campaign_id = c.id)
           OR EXISTS (SELECT FROM campaign_step_variants v WHERE v.campaign_id = c.id)
    ) THEN"""
# As it was, and as it is.
PLANNED_ANEW = ("EXECUTE $sql$", "$sql$;")
KEPT = (GUARD, "; END IF;")
REPLACE = """
DO $do$ BEGIN
    EXECUTE replace(replace(pg_get_functiondef('count_results_of_emails'::regproc), '{}', '{}'), '{}', '{}');
END $do$
"""


def _replace(old: tuple[str, str], new: tuple[str, str]) -> None:
    op.get_bind().exec_driver_sql(REPLACE.format(old[0], new[0], old[1], new[1]))


def upgrade() -> None:
    _replace(PLANNED_ANEW, KEPT)
    for function in FUNCTIONS:
        for setting in SETTINGS:
            op.execute(f"ALTER FUNCTION {function}() SET {setting} = off")


def downgrade() -> None:
    for function in FUNCTIONS:
        for setting in SETTINGS:
            op.execute(f"ALTER FUNCTION {function}() RESET {setting}")
    _replace(KEPT, PLANNED_ANEW)
