"""Completing campaigns: only when every one of its scheduled emails is terminal.

Reads `scheduled_emails`; writes `campaigns`, `lead_batches` and `audit_log`.
"""

from __future__ import annotations

import uuid

import sqlalchemy as sa

from sendledger.campaigns.hold_batches import imported_for, release_batches
from sendledger.campaigns.transitions import TRANSITIONS
from sendledger.core import audit_log
from sendledger.core.audit_log import SYSTEM
from sendledger.core.ledger_rules import is_open, takes_in_leads
from sendledger.core.tables import campaigns
from sendledger.core.vocabulary import AuditAction

# Imports that were accepted before the end of the intake come in after it.
_COMPLETE = sa.text(f"""
    UPDATE campaigns c SET status = 'completed', completed_at = now(), idle_since = NULL, updated_at = now()
    WHERE id = :campaign_id AND status = 'running' AND background_work = '[]' AND NOT ({takes_in_leads("c")})
      AND NOT (evergreen AND EXISTS ({imported_for("c")}))
      AND NOT EXISTS (SELECT FROM scheduled_emails e WHERE e.campaign_id = :campaign_id AND {is_open("e")}
                      ORDER BY e.scheduled_for OFFSET 0)
""").bindparams(sa.bindparam("campaign_id", type_=sa.UUID))


# One that still takes in leads is idle instead.
_NOTE_IDLE = sa.text(f"""
    UPDATE campaigns c SET idle_since = CASE WHEN idle_since IS NULL THEN now() END, updated_at = now()
    WHERE id = :campaign_id AND status = 'running' AND background_work = '[]' AND {takes_in_leads("c")}
      AND (idle_since IS NULL) <> EXISTS (SELECT FROM scheduled_emails e WHERE e.campaign_id = :campaign_id
                                          AND {is_open("e")} ORDER BY e.scheduled_for OFFSET 0)
""").bindparams(sa.bindparam("campaign_id", type_=sa.UUID))


def mark_campaign_complete(engine: sa.Engine, campaign_id: uuid.UUID) -> bool:
    """Complete the campaign if every one of its scheduled emails is terminal; returns whether this call did it.

    A campaign that still takes in leads becomes idle instead.

    It is called after the results are committed, in its own transaction. Lock and check are two statements, because a
    statement that waits for a lock keeps its snapshot from before the wait.
    """
    with engine.begin() as connection:
        locked = sa.select(campaigns.c.status, campaigns.c.evergreen).where(campaigns.c.id == campaign_id)
        campaign = connection.execute(locked.with_for_update()).one_or_none()
        if campaign is None or campaign.status not in TRANSITIONS["complete"][0]:
            return False
        if campaign.evergreen:
            connection.execute(_NOTE_IDLE, {"campaign_id": campaign_id})
        completed = connection.execute(_COMPLETE, {"campaign_id": campaign_id}).rowcount == 1
        if completed:
            release_batches(connection, campaign_id)
            audit_log.record(connection, SYSTEM, AuditAction.CAMPAIGN_COMPLETE, "campaign", campaign_id)
        return completed


# OFFSET 0 makes PostgreSQL check each campaign by itself. Without it this becomes a join, and with old statistics the
# planner would scan the emails of all campaigns for each one. The order makes it read the index of open rows, where
# otherwise it may hope to meet an open row early in the table.
_FINISHED = sa.text(f"""
    SELECT c.id FROM campaigns c WHERE c.status = 'running' AND c.background_work = '[]'
    AND NOT ({takes_in_leads("c")} AND c.idle_since IS NOT NULL)
    AND NOT EXISTS (SELECT FROM scheduled_emails e WHERE e.campaign_id = c.id AND {is_open("e")}
                    ORDER BY e.scheduled_for OFFSET 0)
""")


def complete_finished_campaigns(engine: sa.Engine) -> list[uuid.UUID]:
    """Complete each running campaign without open emails. This repairs a crash between recording and completing."""
    with engine.connect() as connection:
        candidates = list(connection.scalars(_FINISHED))
    return [campaign_id for campaign_id in candidates if mark_campaign_complete(engine, campaign_id)]
