"""Steps that go out as answers to the email before them."""

from __future__ import annotations

from alembic import op

revision = "0024"
down_revision = "0023"

UPGRADE = """
ALTER TABLE workflow_steps
    ADD in_thread boolean NOT NULL DEFAULT false,
    ADD quote boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT workflow_steps_quote_in_thread_check CHECK (in_thread OR NOT quote);
ALTER TABLE campaign_steps
    ADD in_thread boolean NOT NULL DEFAULT false,
    ADD quote boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT campaign_steps_first_step_in_no_thread_check CHECK (NOT in_thread OR step_number > 1),
    ADD CONSTRAINT campaign_steps_quote_in_thread_check CHECK (in_thread OR NOT quote);
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    for table in ("campaign_steps", "workflow_steps"):
        op.execute(f"ALTER TABLE {table} DROP quote, DROP in_thread")
