"""Indexes for the audit log of somebody, and of something."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"

INDEXES = {
    "audit_log_actor_id_idx": "audit_log (actor, id)",
    "audit_log_entity_id_id_idx": "audit_log (entity_id, id)",
}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        # Alembic asks for the isolation level as it enters the block, and with pg8000 that opens a transaction.
        op.execute("COMMIT")
        lock_timeout = op.get_bind().scalar(sa.text("SHOW lock_timeout"))
        op.execute("COMMIT")
        # A concurrent build waits for transactions that are older than itself, and blocks nobody while it does.
        op.execute("SET lock_timeout = '10min'")
        for name, columns in INDEXES.items():
            # An interrupted concurrent build leaves an invalid index behind; IF NOT EXISTS would keep it.
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {columns}")
        op.execute(f"SET lock_timeout = '{lock_timeout}'")


def downgrade() -> None:
    for name in INDEXES:
        op.execute(f"DROP INDEX IF EXISTS {name}")
