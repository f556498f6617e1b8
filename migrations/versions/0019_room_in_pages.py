"""Room in the pages of tables whose rows change soon after they are written, and earlier vacuums of the hot ones.

An update that finds room in its page and changes no indexed column writes no index entry (a HOT update,
https://www.postgresql.org/docs/current/storage-hot.html). Only new pages have the room; existing rows stay where they are.
"""

from alembic import op

revision = "0019"
down_revision = "0018"

SETTINGS = {
    "leads": "fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05",
    "scheduled_emails": "fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05",
    "emails": "fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05",
    "campaigns": "fillfactor = 50, autovacuum_vacuum_scale_factor = 0",
    "campaign_counts": "autovacuum_vacuum_scale_factor = 0.05",
    "sender_state": "fillfactor = 10, autovacuum_vacuum_scale_factor = 0",
}


def upgrade() -> None:
    for table, settings in SETTINGS.items():
        op.execute(f"ALTER TABLE {table} SET ({settings})")


def downgrade() -> None:
    for table, settings in SETTINGS.items():
        names = ", ".join(setting.split(" = ")[0] for setting in settings.split(", "))
        op.execute(f"ALTER TABLE {table} RESET ({names})")
