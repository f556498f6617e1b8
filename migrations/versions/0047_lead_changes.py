"""Changes of the tags and custom fields of many leads."""

from __future__ import annotations

from alembic import op

revision = "0047"
down_revision = "0046"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE lead_changes (
            id uuid DEFAULT gen_random_uuid() PRIMARY KEY,
            filter jsonb NOT NULL,
            add_tags text[] NOT NULL,
            remove_tags text[] NOT NULL,
            custom_fields jsonb NOT NULL,
            requested_by text NOT NULL,
            leads_total integer NOT NULL,
            leads_done integer NOT NULL DEFAULT 0,
            leads_changed integer NOT NULL DEFAULT 0,
            after_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            completed_at timestamptz
        );
        CREATE INDEX lead_changes_unfinished_idx ON lead_changes (updated_at) WHERE completed_at IS NULL;
    """)


def downgrade() -> None:
    op.execute("DROP TABLE lead_changes")
