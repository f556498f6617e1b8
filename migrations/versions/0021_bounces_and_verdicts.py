"""Soft bounces apart from hard ones, the verdicts on the sender of a reply, and opt-outs at SES among the unsubscribes.

Bounces that were recorded before stay counted as they are: as bounced, whatever their kind.
"""

from __future__ import annotations

from alembic import op

revision = "0021"
down_revision = "0020"

RESULTS = "('pass', 'fail', 'softfail', 'neutral', 'policy', 'none', 'temperror', 'permerror')"
UPGRADE = f"""
ALTER TABLE emails ADD soft_bounced_at timestamp;
ALTER TABLE emails DROP CONSTRAINT emails_delivery_status_check;
ALTER TABLE emails ADD CONSTRAINT emails_delivery_status_check CHECK (delivery_status IN (
    'sent', 'delayed', 'soft_bounced', 'delivered', 'bounced', 'complained')) NOT VALID;
ALTER TABLE emails VALIDATE CONSTRAINT emails_delivery_status_check;
ALTER TABLE campaigns ADD emails_soft_bounced_count integer NOT NULL DEFAULT 0;
ALTER TABLE campaign_counts DROP CONSTRAINT campaign_counts_what_check;
ALTER TABLE campaign_counts ADD CONSTRAINT campaign_counts_what_check CHECK (what IN ('pending', 'sending', 'sent',
    'failed', 'skipped', 'cancelled', 'delivered', 'opened', 'clicked', 'bounced', 'soft_bounced'));
ALTER TABLE unsubscribes DROP CONSTRAINT unsubscribes_method_check;
ALTER TABLE unsubscribes ADD CONSTRAINT unsubscribes_method_check CHECK (method IN ('one_click', 'page', 'ses'));
-- X-Auto-Response-Suppress does not count any more.
UPDATE replies SET automatic = 'x_autoreply' WHERE automatic = 'auto_response_suppress';
ALTER TABLE replies
    ADD spf text CONSTRAINT replies_spf_check CHECK (spf IN {RESULTS}),
    ADD dkim text CONSTRAINT replies_dkim_check CHECK (dkim IN {RESULTS}),
    ADD dmarc text CONSTRAINT replies_dmarc_check CHECK (dmarc IN {RESULTS}),
    ADD CONSTRAINT replies_automatic_check CHECK (automatic IN ('spam', 'delivery_report', 'calendar', 'auto_submitted',
        'x_autoreply', 'precedence', 'empty_return_path', 'subject', 'mailing_list', 'forged'));
"""
DOWNGRADE = """
ALTER TABLE replies DROP CONSTRAINT replies_automatic_check, DROP spf, DROP dkim, DROP dmarc;
DELETE FROM unsubscribes WHERE method = 'ses';
ALTER TABLE unsubscribes DROP CONSTRAINT unsubscribes_method_check;
ALTER TABLE unsubscribes ADD CONSTRAINT unsubscribes_method_check CHECK (method IN ('one_click', 'page'));
DELETE FROM campaign_counts WHERE what = 'soft_bounced';
ALTER TABLE campaign_counts DROP CONSTRAINT campaign_counts_what_check;
ALTER TABLE campaign_counts ADD CONSTRAINT campaign_counts_what_check CHECK (what IN ('pending', 'sending', 'sent',
    'failed', 'skipped', 'cancelled', 'delivered', 'opened', 'clicked', 'bounced'));
ALTER TABLE campaigns DROP emails_soft_bounced_count;
UPDATE emails SET delivery_status = 'delayed' WHERE delivery_status = 'soft_bounced';
ALTER TABLE emails DROP CONSTRAINT emails_delivery_status_check;
ALTER TABLE emails ADD CONSTRAINT emails_delivery_status_check CHECK (delivery_status IN (
    'sent', 'delayed', 'delivered', 'bounced', 'complained')) NOT VALID;
ALTER TABLE emails VALIDATE CONSTRAINT emails_delivery_status_check;
ALTER TABLE emails DROP soft_bounced_at;
"""
# The counting trigger learns the new time; its text is the one of 0013 in every other respect.
COUNTED, COUNTED_TOO = "(''bounced'', bounced_at)", "(''bounced'', bounced_at), (''soft_bounced'', soft_bounced_at)"
REPLACE_IN_TRIGGER = """
DO $$ BEGIN
    EXECUTE replace(pg_get_functiondef('count_emails'::regproc), '{old}', '{new}');
END $$
"""


def upgrade() -> None:
    run = op.get_bind().exec_driver_sql
    run(UPGRADE)
    run(REPLACE_IN_TRIGGER.format(old=COUNTED, new=COUNTED_TOO))


def downgrade() -> None:
    run = op.get_bind().exec_driver_sql
    run(REPLACE_IN_TRIGGER.format(old=COUNTED_TOO, new=COUNTED))
    run(DOWNGRADE)
