"""A digest of what a campaign would send: it differs as soon as an edit could change an email or its time.

Its status is not part of it, so that a campaign has the same digest before and after its start was scheduled.

A campaign's id goes in. Reads `campaigns`, `campaign_leads`, `workflow_steps` and their variants,
`email_templates` and their attachments, `segments`.
"""

from __future__ import annotations

import sqlalchemy as sa

_DIGEST = sa.text("""
    WITH steps AS (
        SELECT s.email_template_id, to_jsonb(s) - '{created_at,updated_at}'::text[] AS fields
        FROM campaigns c JOIN workflow_steps s ON s.workflow_id = c.workflow_id
        WHERE c.id = CAST(:id AS uuid)
    ), variants AS (
        SELECT v.email_template_id, to_jsonb(v) AS fields
        FROM campaigns c JOIN workflow_steps s ON s.workflow_id = c.workflow_id
        JOIN workflow_step_variants v ON v.workflow_step_id = s.id
        WHERE c.id = CAST(:id AS uuid)
    ), templates AS (
        SELECT t.id, t.subject, t.body_text, t.body_html FROM email_templates t
        WHERE t.id = (SELECT email_template_id FROM campaigns WHERE id = CAST(:id AS uuid))
           OR t.id IN (SELECT email_template_id FROM steps UNION ALL SELECT email_template_id FROM variants)
    )
    SELECT encode(sha256(convert_to(concat_ws(E'\\n',
        to_jsonb(c) - '{created_at,updated_at,status,failure_reason,failed_at,confirmed_content}'::text[],
        (SELECT string_agg(fields::text, E'\\n' ORDER BY fields) FROM steps),
        (SELECT string_agg(fields::text, E'\\n' ORDER BY fields) FROM variants),
        (SELECT string_agg(to_jsonb(t)::text, E'\\n' ORDER BY t.id) FROM templates t),
        (SELECT string_agg(a.id::text, E'\\n' ORDER BY a.id) FROM email_template_attachments a
         WHERE a.email_template_id IN (SELECT id FROM templates)),
        (SELECT string_agg(to_jsonb(s) ->> 'filter', E'\\n' ORDER BY s.id) FROM segments s
         WHERE s.id = ANY (c.segment_ids)),
        (SELECT encode(sha256(string_agg(uuid_send(lead_id), '' ORDER BY lead_id)), 'hex') FROM campaign_leads l
         WHERE l.campaign_id = c.id)), 'UTF8')), 'hex')
    FROM campaigns c WHERE c.id = CAST(:id AS uuid)
""")


def content_digest(connection: sa.Connection, campaign_id: object) -> str | None:
    """None: there is no such campaign."""
    digest: str | None = connection.scalar(_DIGEST, {"id": str(campaign_id)})
    return digest
