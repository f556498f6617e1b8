"""What the team makes of replies, and who has dealt with them."""

from __future__ import annotations

from alembic import op

revision = "0029"
down_revision = "0028"

UPGRADE = """
ALTER TABLE replies
    ADD asks_to_stop boolean NOT NULL DEFAULT false,
    ADD outcome text CONSTRAINT replies_outcome_check CHECK (outcome IN (
        'interested', 'not_interested', 'later', 'wrong_person', 'unsubscribe')),
    ADD later_until timestamptz,
    ADD handled_at timestamptz,
    ADD handled_by text,
    ADD CONSTRAINT replies_later_until_check CHECK (later_until IS NULL OR outcome = 'later'),
    ADD CONSTRAINT replies_handled_check CHECK ((handled_at IS NULL) = (handled_by IS NULL));
CREATE INDEX replies_open_idx ON replies (created_at, id) WHERE handled_at IS NULL;
ALTER TABLE unsubscribes DROP CONSTRAINT unsubscribes_method_check;
ALTER TABLE unsubscribes ADD CONSTRAINT unsubscribes_method_check
    CHECK (method IN ('one_click', 'page', 'ses', 'reply'));
"""
DOWNGRADE = """
UPDATE unsubscribes SET method = 'page' WHERE method = 'reply';
ALTER TABLE unsubscribes DROP CONSTRAINT unsubscribes_method_check;
ALTER TABLE unsubscribes ADD CONSTRAINT unsubscribes_method_check CHECK (method IN ('one_click', 'page', 'ses'));
DROP INDEX replies_open_idx;
ALTER TABLE replies
    DROP CONSTRAINT replies_later_until_check, DROP CONSTRAINT replies_handled_check,
    DROP handled_by, DROP handled_at, DROP later_until, DROP outcome, DROP asks_to_stop;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
