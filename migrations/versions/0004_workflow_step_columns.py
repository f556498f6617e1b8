"""Workflow steps refer to email templates; their inline subject and body become optional."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.execute("""
        ALTER TABLE workflow_steps
            ALTER subject DROP NOT NULL,
            ALTER body DROP NOT NULL,
            ADD email_template_id uuid,
            ADD delay interval,
            ADD updated_at timestamptz NOT NULL DEFAULT now(),
            ADD CONSTRAINT workflow_steps_email_template_id_fkey
                FOREIGN KEY (email_template_id) REFERENCES email_templates (id) ON DELETE RESTRICT,
            ADD CONSTRAINT workflow_steps_delay_not_negative_check CHECK (delay >= interval '0'),
            ADD CONSTRAINT workflow_steps_has_content_check
                CHECK (email_template_id IS NOT NULL OR (subject IS NOT NULL AND body IS NOT NULL))
    """)
    op.execute("CREATE INDEX workflow_steps_workflow_id_idx ON workflow_steps (workflow_id)")


def downgrade() -> None:
    # A step that only refers to a template gets the template's text, so that the old application can send it.
    op.execute("DROP INDEX workflow_steps_workflow_id_idx")
    op.execute("""
        UPDATE workflow_steps s SET subject = coalesce(s.subject, t.subject), body = coalesce(s.body, t.body_text)
        FROM email_templates t WHERE t.id = s.email_template_id AND (s.subject IS NULL OR s.body IS NULL)
    """)
    op.execute("""
        ALTER TABLE workflow_steps
            DROP CONSTRAINT workflow_steps_has_content_check,
            DROP email_template_id, DROP delay, DROP updated_at,
            ALTER subject SET NOT NULL,
            ALTER body SET NOT NULL
    """)
