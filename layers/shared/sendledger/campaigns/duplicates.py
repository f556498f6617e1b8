"""Making a draft like another campaign. Reads and writes `campaigns`; writes `audit_log`."""

from __future__ import annotations

from uuid import UUID

import sqlalchemy as sa

from sendledger.campaigns.assign_lanes import senders_of_new_leads
from sendledger.campaigns.campaigns import OUTREACH_TYPES, get_campaign
from sendledger.core import audit_log
from sendledger.core.tables import campaigns, email_templates
from sendledger.core.vocabulary import AuditAction, CampaignStatus, CampaignType, StartType

LONGEST_NAME = 255
COPIED = (
    *("description", "workflow_id", "from_address", "reply_to_address", "sending_schedule_id"),
    *("new_leads_per_day", "new_leads_per_company_per_day"),
    *("postal_address_waived", "track_opens", "track_clicks", "guardrails", "outreach_delay_days"),
    *("evergreen", "intake"),
    *("lead_sources", "max_results_per_run", "is_recurring", "recurring_interval"),
    # Settings of the old application.
    *("industry", "target_countries", "target_cities", "company_size", "leads_per_day", "follow_up_enabled"),
    *("follow_up_1_delay_days", "follow_up_2_delay_days", "schedule_type", "schedule_time"),
    *("uses_linkedin", "uses_apollo", "uses_people_dl", "uses_google_places", "uses_web_scraping"),
)
"""The columns that a duplicate takes as they are. All others are those of a new draft; see `duplicate`."""


def duplicate(connection: sa.Connection, campaign_id: UUID, name: str | None, actor: str) -> sa.RowMapping:
    """A draft with the settings and the content of a campaign in whatever status, without its leads and results.

    A scheduled start is taken over while it is in the future. A template that was deleted meanwhile is left out.

    Raises:
        NotFound: there is no such campaign.
    """
    origin = get_campaign(connection, campaign_id)
    values = {column: origin[column] for column in COPIED}
    values["name"] = name if name is not None else f"Copy of {origin['name']}"[:LONGEST_NAME]
    values["sender_ids"] = senders_of_new_leads(origin)
    values |= {"status": CampaignStatus.DRAFT, "use_workflow": origin["workflow_id"] is not None}
    is_outreach = origin["campaign_type"] in OUTREACH_TYPES
    values["campaign_type"] = CampaignType.OUTREACH if is_outreach else origin["campaign_type"]
    # Locked, so that it is not deleted before this campaign is seen to use it.
    kept = sa.select(email_templates.c.id).where(email_templates.c.id == origin["email_template_id"])
    values["email_template_id"] = connection.scalar(kept.with_for_update(read=True, key_share=True))
    now = connection.execute(sa.select(sa.func.now())).scalar_one()
    values |= {
        column: origin[column]
        for column in ("next_run_at", "end_at")
        if origin[column] is not None and origin[column] > now
    }
    if origin["start_type"] == StartType.SCHEDULED and origin["scheduled_start_at"] > now:
        values |= {"start_type": StartType.SCHEDULED, "scheduled_start_at": origin["scheduled_start_at"]}
    created = connection.execute(sa.insert(campaigns).values(values).returning(campaigns.c.id)).scalar_one()
    detail = {"duplicate_of": str(campaign_id)}
    audit_log.record(connection, actor, AuditAction.CAMPAIGN_CREATE, "campaign", created, detail)
    return get_campaign(connection, created, count_leads=True)
