"""Each foreign key begins an index, or a delete of its parent needs none."""

from __future__ import annotations

import sqlalchemy as sa

WITHOUT_AN_INDEX = {
    # A person deletes one template, workflow or campaign at a time, and these tables have a row for each thing that a
    # person has made: thousands, not millions. To read them takes milliseconds.
    "campaign_step_variants (email_template_id)": "email_templates",
    "campaign_steps (email_template_id)": "email_templates",
    "campaigns (workflow_id)": "workflows",
    "lead_batches (active_campaign_id)": "campaigns",
    "workflow_step_variants (email_template_id)": "email_templates",
    "workflow_steps (email_template_id)": "email_templates",
    # Steps are deleted with their campaign only, whose rows an index on campaign_id finds.
    "scheduled_emails (campaign_id, revision, workflow_step_number)": "campaign_steps",
}

# What a delete looks for is never NULL, so a partial index without NULLs serves it as well.
_WITHOUT = sa.text("""
    SELECT format('%s (%s)', c.conrelid::regclass, string_agg(a.attname, ', ' ORDER BY k.position)),
           c.confrelid::regclass::text
    FROM pg_constraint c
    CROSS JOIN unnest(c.conkey) WITH ORDINALITY AS k (number, position)
    JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.number
    WHERE c.contype = 'f' AND NOT EXISTS (
        SELECT FROM pg_index i
        WHERE i.indrelid = c.conrelid AND i.indisvalid
          AND (i.indkey::int2[])[0 : cardinality(c.conkey) - 1] @> c.conkey
          AND (i.indpred IS NULL OR pg_get_expr(i.indpred, i.indrelid) = format('(%I IS NOT NULL)', a.attname)))
    GROUP BY c.oid, c.conrelid, c.confrelid
""")


def test_foreign_keys_without_an_index_are_those_that_need_none(connection: sa.Connection) -> None:
    assert {row[0]: row[1] for row in connection.execute(_WITHOUT)} == WITHOUT_AN_INDEX
