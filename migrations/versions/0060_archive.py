"""How far the archive of a removal has got, and vacuum settings of tables that retention deletes from."""

from __future__ import annotations

from alembic import op

revision = "0060"
down_revision = "0059"

COLUMNS = {
    "archived_after_id": "bigint NOT NULL DEFAULT 0",
    "archived_after_email": "uuid",
    "archive_parts": "integer NOT NULL DEFAULT 0",
    "archive_rows": "bigint NOT NULL DEFAULT 0",
    "archived_at": "timestamptz",
}
# Without it, vacuum waits until a fifth of a table is dead, or new: twenty million rows of a hundred million.
SETTINGS = {
    "email_events": ("autovacuum_vacuum_scale_factor", "autovacuum_vacuum_insert_scale_factor"),
    "webhook_deliveries": ("autovacuum_vacuum_scale_factor",),
}


def upgrade() -> None:
    op.execute(f"ALTER TABLE removals {', '.join(f'ADD {name} {type_}' for name, type_ in COLUMNS.items())}")
    # What a sender has used of its caps is in `cap_uses`.
    op.execute("DROP INDEX removed_emails_sender_id_idx")
    for table, settings in SETTINGS.items():
        op.execute(f"ALTER TABLE {table} SET ({', '.join(f'{name} = 0.05' for name in settings)})")


def downgrade() -> None:
    for table, settings in SETTINGS.items():
        op.execute(f"ALTER TABLE {table} RESET ({', '.join(settings)})")
    op.execute("CREATE INDEX removed_emails_sender_id_idx ON removed_emails (sender_id, sending_day)")
    op.execute(f"ALTER TABLE removals {', '.join(f'DROP {name}' for name in COLUMNS)}")
