"""What a campaign looks like in requests and answers: its fields when it is made, changed and shown."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal, get_args
from uuid import UUID

from pydantic import Field, Strict

from api_fields import (
    INT32_MAX,
    Description,
    Flag,
    Input,
    Instant,
    Mailbox,
    Name,
    Resource,
    only_given,
)
from sendledger.campaigns.guardrails import Limits
from sendledger.core.vocabulary import CampaignStatus, CampaignType, StartType, described

NewCampaignType = Literal[CampaignType.OUTREACH, CampaignType.LEAD_GENERATION, CampaignType.FULLY_AUTOMATED]
_TYPES = described(get_args(NewCampaignType))

SenderIds = Annotated[
    list[UUID],
    Field(max_length=20, description="Senders that its leads are split over evenly; none: `from_address` is used."),
]
NewLeadsPerDay = Annotated[
    Annotated[int, Strict(), Field(ge=1, le=INT32_MAX)] | None,
    Field(description="The most leads that get their first email on one day (`SendingDayTimeZone`); null: no limit."),
]
NewLeadsPerCompany = Annotated[
    Annotated[int, Strict(), Field(ge=1, le=INT32_MAX)] | None,
    Field(
        description=(
            "The same for each company, which is the domain of the address. Addresses at free mail providers do not "
            "count."
        )
    ),
]
LeadBatchIds = Annotated[list[UUID], Field(max_length=1000, description="All leads of these lead batches.")]
SegmentIds = Annotated[
    list[UUID], Field(max_length=100, description="The leads that these segments match when the campaign starts.")
]
OLD = Field(description="Of an older application. It has no effect, and cannot be written.")
LeadIds = Annotated[
    list[UUID], Field(max_length=10_000, description="Leads besides those of the lead batches and segments.")
]


class Intake(Input):
    """How often a campaign takes in the leads that its lead batches, segments and list have got since."""

    every: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,3} (minute|hour|day|week)s?$", examples=["1 day", "6 hours"])]


EndAt = Annotated[
    Instant | None, Field(description="When an evergreen campaign stops taking in leads. Null: `finish` ends that.")
]


class NewCampaign(Input):
    """A draft may have no leads and no content. To start, it needs leads, and `email_template_id` or `workflow_id`."""

    name: Name
    description: Description | None = None
    campaign_type: Annotated[NewCampaignType, Field(description=_TYPES)] = CampaignType.OUTREACH
    batch_ids: LeadBatchIds = Field(default_factory=list)
    segment_ids: SegmentIds = Field(default_factory=list)
    lead_ids: LeadIds = Field(default_factory=list)
    email_template_id: UUID | None = None
    workflow_id: UUID | None = None
    start_type: Annotated[
        StartType, Field(description="A scheduled campaign, once started, waits for `scheduled_start_at`.")
    ] = StartType.MANUAL
    scheduled_start_at: Instant | None = None
    from_address: Annotated[Mailbox | None, Field(description="Instead of the deployment's own.")] = None
    reply_to_address: Mailbox | None = None
    sending_schedule_id: Annotated[UUID | None, Field(description="When it may send; null: at any time.")] = None
    sender_ids: SenderIds = Field(default_factory=list)
    new_leads_per_day: NewLeadsPerDay = None
    new_leads_per_company_per_day: NewLeadsPerCompany = None
    postal_address_waived: Annotated[
        Flag, Field(description="It may start although the deployment has no postal address for the footer.")
    ] = False
    track_opens: Annotated[
        Flag,
        Field(
            description=(
                "SES adds a picture to each email that reports when it is opened. Mail programs load it by themselves, "
                "so that many opens are of machines; these do not count."
            )
        ),
    ] = False
    track_clicks: Annotated[
        Flag,
        Field(
            description=(
                "SES sends the links of each email through its own domain, which reports who follows them. The "
                "link to unsubscribe is never tracked."
            )
        ),
    ] = False
    guardrails: Limits = Limits()
    evergreen: Annotated[
        Flag, Field(description="It takes in leads after its start, may start without any, and does not complete.")
    ] = False
    end_at: EndAt = None
    intake: Intake | None = None


class CampaignChanges(Input):
    """Only the given fields change; a list replaces the one before. A scheduled campaign keeps leads and content."""

    name: Name = only_given()
    description: Description | None = None
    campaign_type: Annotated[NewCampaignType, Field(description=_TYPES)] = only_given()
    batch_ids: LeadBatchIds = only_given()
    segment_ids: SegmentIds = only_given()
    lead_ids: LeadIds = only_given()
    email_template_id: UUID | None = None
    workflow_id: UUID | None = None
    start_type: StartType = only_given()
    scheduled_start_at: Instant | None = None
    from_address: Mailbox | None = None
    reply_to_address: Mailbox | None = None
    sending_schedule_id: UUID | None = None
    sender_ids: SenderIds = only_given()
    new_leads_per_day: NewLeadsPerDay = None
    new_leads_per_company_per_day: NewLeadsPerCompany = None
    postal_address_waived: Flag = only_given()
    track_opens: Flag = only_given()
    track_clicks: Flag = only_given()
    guardrails: Annotated[Limits, Field(description="Can be changed at any time; replaces all limits that it had.")] = (
        only_given()
    )
    evergreen: Flag = only_given()
    end_at: EndAt = None
    intake: Intake | None = None


class WorkflowError(Resource):
    """What is wrong with the workflow as it is now, or with its templates."""

    field: str
    message: str


class Campaign(Resource):
    """A campaign with its counters and times."""

    id: UUID
    name: str
    description: str | None
    status: CampaignStatus
    campaign_type: Annotated[
        str, Field(description="One of those of `type`; an older application may have written others.")
    ]
    batch_ids: list[UUID]
    segment_ids: list[UUID]
    lead_ids_count: Annotated[
        int, Field(description="How many leads were given as `lead_ids`, or were known already in an import for it.")
    ]
    email_template_id: UUID | None
    workflow_id: UUID | None
    use_workflow: bool
    from_address: str | None
    reply_to_address: str | None
    sending_schedule_id: UUID | None
    sender_ids: list[UUID]
    former_sender_ids: Annotated[
        list[UUID],
        Field(description="Those of `sender_ids` that have handed their leads over; they get no new ones."),
    ]
    new_leads_per_day: int | None
    new_leads_per_company_per_day: int | None
    postal_address_waived: bool
    track_opens: bool
    track_clicks: bool
    guardrails: Limits
    evergreen: bool
    end_at: dt.datetime | None
    intake: Intake | None
    revision: Annotated[
        int, Field(description="The revision for leads that come in now. 1 is that of the start; edits add others.")
    ]
    workflow_errors: Annotated[
        list[WorkflowError],
        Field(description="Why its edited workflow cannot be sent. Leads that come in get the revision before."),
    ]
    next_intake_at: Annotated[dt.datetime | None, Field(description="When it looks for new leads next.")]
    intake_ended_at: Annotated[dt.datetime | None, Field(description="When a person ended the intake.")]
    idle_since: Annotated[
        dt.datetime | None, Field(description="Since when all its emails are done while it still takes in leads.")
    ]
    start_type: StartType
    scheduled_start_at: dt.datetime | None
    lead_sources: Annotated[list[str] | None, OLD]
    max_results_per_run: Annotated[int | None, OLD]
    is_recurring: Annotated[bool, OLD]
    recurring_interval: Annotated[str | None, OLD]
    next_run_at: Annotated[dt.datetime | None, OLD]
    outreach_delay_days: Annotated[int, OLD]
    leads_per_day: Annotated[int | None, OLD]
    schedule_type: Annotated[str | None, OLD]
    schedule_time: Annotated[str | None, OLD]
    actual_started_at: dt.datetime | None
    paused_at: dt.datetime | None
    resumed_at: dt.datetime | None
    completed_at: dt.datetime | None
    cancelled_at: dt.datetime | None
    failed_at: dt.datetime | None
    failure_reason: Annotated[str | None, Field(description="Why it failed, or why it was paused automatically.")]
    total_leads_targeted: int
    emails_scheduled_count: int
    emails_sent_count: int
    emails_failed_count: int
    emails_delivered_count: Annotated[int, Field(description="Emails that a mail server has accepted.")]
    emails_bounced_count: Annotated[int, Field(description="Emails that bounced permanently.")]
    emails_soft_bounced_count: Annotated[
        int, Field(description="Emails that bounced temporarily (a full mailbox) and were not delivered.")
    ]
    emails_complained_count: Annotated[int, Field(description="Emails that were reported as spam.")]
    emails_opened_count: Annotated[
        int, Field(description="Emails that were opened, however often; privacy proxies and scanners do not count.")
    ]
    emails_clicked_count: Annotated[int, Field(description="Emails with a click, however many; as for opens.")]
    emails_unsubscribed_count: int
    emails_replied_count: int
    current_workflow_step: int
    leads_left_out: Annotated[dict[str, int], Field(description="Leads left out at the start, by reason.")]
    background_work: Annotated[
        list[dict[str, Any]],
        Field(description="Work on the scheduled emails that is still being finished in the background."),
    ]
    late_hold_until: Annotated[
        dt.datetime | None, Field(description="Emails that were due until then are held for being late.")
    ]
    created_at: dt.datetime | None
    updated_at: dt.datetime | None
