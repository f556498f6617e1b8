"""Taking one lead out of a campaign that is under way: what is planned for it is cancelled, and what failed stays so.

Reads `campaigns`; writes `scheduled_emails` and `audit_log`.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import sqlalchemy as sa

from sendledger.campaigns.campaigns import get_campaign
from sendledger.campaigns.completion import mark_campaign_complete
from sendledger.core import audit_log
from sendledger.core.errors import Conflict, NotFound
from sendledger.core.ledger_rules import still_planned
from sendledger.core.tables import scheduled_emails
from sendledger.core.vocabulary import AuditAction, CampaignStatus, Reason, ScheduledEmailStatus

_rows = scheduled_emails.c
_HAS_FAILED = _rows.status == ScheduledEmailStatus.FAILED
# Failed emails are not planned, nor are later steps that wait for one, but a retry would plan them again.
_MAY_STILL_GO = sa.or_(
    sa.literal_column(still_planned("scheduled_emails"), sa.Boolean),
    sa.and_(_rows.status == ScheduledEmailStatus.SKIPPED, _rows.reason == Reason.PREVIOUS_STEP_FAILED),
    sa.and_(_HAS_FAILED, _rows.reason.is_(None)),
)


@dataclass(frozen=True)
class RemovedLead:
    """What was cancelled, and the campaign's status after it: with its last emails a campaign is completed."""

    status: str
    emails_cancelled: int


def remove_lead(engine: sa.Engine, campaign_id: uuid.UUID, lead_id: uuid.UUID, actor: str) -> RemovedLead:
    """Cancel what the campaign still has planned for the lead. A second call cancels nothing and is no error.

    If the process ends after the commit, the next tick completes the campaign.

    Raises:
        NotFound: there is no such campaign, or it has no email to this lead.
        Conflict: it is not under way, its emails are still being scheduled, or one to this lead is on its way to SES.
    """
    with engine.begin() as connection:
        campaign = get_campaign(connection, campaign_id, lock=True)
        status = campaign["status"]
        if status not in (CampaignStatus.RUNNING, CampaignStatus.PAUSED):
            message = f"The campaign is {status}; a lead can be taken out of one that is running or paused."
            raise Conflict(message, status=status)
        being_written = {work["kind"] for work in campaign["background_work"]}
        own = sa.and_(_rows.lead_id == lead_id, _rows.campaign_id == campaign_id)
        found = set(connection.scalars(sa.select(_rows.status).where(own)))
        if "schedule" in being_written or ("intake" in being_written and not found):
            message = "The emails of this campaign are still being scheduled; try again in a few minutes."
            raise Conflict(message, status=status)
        if not found:
            raise NotFound("email of this campaign to a lead", lead_id)
        if ScheduledEmailStatus.SENDING in found:
            # SES may refuse it for now, and then it would be pending again.
            message = "An email to this lead is on its way; try again in a few minutes."
            raise Conflict(message, status=status)
        ended_as = sa.case((_HAS_FAILED, _rows.status), else_=ScheduledEmailStatus.CANCELLED)
        ended = connection.scalars(
            sa.update(scheduled_emails)
            .where(own, _MAY_STILL_GO)
            .values(status=ended_as, reason=Reason.LEAD_REMOVED, updated_at=sa.func.now())
            .returning(_rows.status)
        ).all()
        cancelled = ended.count(ScheduledEmailStatus.CANCELLED)
        if ended:
            detail = {"lead_id": str(lead_id), "emails": cancelled}
            audit_log.record(connection, actor, AuditAction.CAMPAIGN_LEAD_REMOVE, "campaign", campaign_id, detail)
    if mark_campaign_complete(engine, campaign_id):
        status = CampaignStatus.COMPLETED
    return RemovedLead(status, cancelled)
