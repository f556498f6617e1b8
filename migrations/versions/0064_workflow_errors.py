"""A campaign says why its edited workflow cannot be sent to the leads that come in."""

from __future__ import annotations

from alembic import op

revision = "0064"
down_revision = "0063"


def upgrade() -> None:
    op.get_bind().exec_driver_sql("ALTER TABLE campaigns ADD workflow_errors JSONB DEFAULT '[]' NOT NULL")


def downgrade() -> None:
    op.get_bind().exec_driver_sql("ALTER TABLE campaigns DROP workflow_errors")
