"""More room in the pages of the ledger and of emails, and a faster compression of their texts where the server has it.

Only new pages get the room, and only new texts the compression; existing rows stay as they are. Not every PostgreSQL
is built with LZ4: https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-DEFAULT-TOAST-COMPRESSION.
"""

from __future__ import annotations

from alembic import op

revision = "0049"
down_revision = "0048"

COMPRESSION = """
    DO $$ BEGIN
        IF (SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression') THEN
            ALTER TABLE emails ALTER body_text SET COMPRESSION lz4, ALTER body_html SET COMPRESSION lz4;
        END IF;
    END $$
"""


def upgrade() -> None:
    op.execute("ALTER TABLE scheduled_emails SET (fillfactor = 35)")
    op.execute("ALTER TABLE emails SET (fillfactor = 50)")
    op.execute(COMPRESSION)


def downgrade() -> None:
    op.execute("ALTER TABLE emails ALTER body_text SET COMPRESSION default, ALTER body_html SET COMPRESSION default")
    op.execute("ALTER TABLE emails SET (fillfactor = 60)")
    op.execute("ALTER TABLE scheduled_emails SET (fillfactor = 50)")
