"""Indexes for the audit log of somebody, and of something."""

from alembic import op

from sendledger.core.online_ddl import creation, outside_of_a_transaction

revision = "0015"
down_revision = "0014"

INDEXES = {
    "audit_log_actor_id_idx": "audit_log (actor, id)",
    "audit_log_entity_id_id_idx": "audit_log (entity_id, id)",
}


def upgrade() -> None:
    outside_of_a_transaction(*creation(INDEXES))


def downgrade() -> None:
    for name in INDEXES:
        op.execute(f"DROP INDEX IF EXISTS {name}")
