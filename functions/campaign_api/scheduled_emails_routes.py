"""Routes of the ledger: scheduled emails, and the emails that were sent for them."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal
from uuid import UUID

from aws_lambda_powertools.event_handler.openapi.params import Body, Query
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import Field, Strict

import api_resources
from api_fields import (
    INT32_MAX,
    Acting,
    CampaignId,
    Cursor,
    EmailId,
    Input,
    Limit,
    NextCursor,
    Resource,
    ScheduledEmailId,
)
from sendledger.content.workflows import MAX_DELAY, MAX_STEPS
from sendledger.core.invoke_function import tell_function
from sendledger.core.vocabulary import DeliveryStatus, Reason, ScheduledEmailStatus
from sendledger.ledger import emails, scheduled_emails, settle_unknown

router = APIGatewayHttpRouter()

StatusFilter = Annotated[ScheduledEmailStatus | None, Query(description="Only those with this status.")]
StepFilter = Annotated[int | None, Query(ge=1, le=INT32_MAX, description="Number of the workflow step.")]
LeadFilter = Annotated[UUID | None, Query(description="Only those of the lead with this id.")]
Order = Annotated[
    Literal["id", "-id", "scheduled_for", "-scheduled_for"] | None,
    Query(
        description="With - before it: downwards. With `status=pending` by `scheduled_for`, which is the default then; "
        "otherwise by `id`, the order in which they were scheduled."
    ),
]
ErrorCodeFilter = Annotated[
    str | None,
    Query(pattern="^[a-z_]{1,100}$", description="Why it failed, for example outcome_unknown."),
]
ReasonFilter = Annotated[Reason | None, Query(description="Only those that are skipped or cancelled for this reason.")]


class ScheduledEmail(Resource):
    """One row of the ledger: one campaign's email of one step to one lead."""

    id: int
    campaign_id: UUID
    lead_id: Annotated[UUID | None, Field(description="Null: the lead was deleted.")]
    template_id: UUID | None
    workflow_id: UUID | None
    workflow_step_number: int
    variant: Annotated[int | None, Field(description="Of its step, where that has several.")]
    revision: Annotated[int, Field(description="Of the campaign's workflow, as the lead came in with it.")]
    scheduled_for: dt.datetime
    status: ScheduledEmailStatus
    reason: Annotated[
        Reason | None, Field(description="Why it was skipped or cancelled, or why a failed one is not sent again.")
    ]
    error_code: Annotated[str | None, Field(description="Why it failed, as a code.")]
    failure_reason: Annotated[str | None, Field(description="Why it failed, in words.")]
    retry_count: int
    send_started_at: dt.datetime | None
    sent_at: dt.datetime | None
    failed_at: dt.datetime | None
    ses_message_id: str | None
    email_id: Annotated[UUID | None, Field(description="The email that was sent.")]
    created_at: dt.datetime
    updated_at: dt.datetime


class ScheduledEmailPage(Resource):
    """One page of scheduled emails."""

    items: list[ScheduledEmail]
    next_cursor: NextCursor


class Email(Resource):
    """One email that was handed to SES, with its content and delivery."""

    id: UUID
    scheduled_email_id: int | None
    campaign_id: UUID | None
    lead_id: UUID
    to_address: str | None
    subject: Annotated[str, Field(description="Empty, as the texts are, once retention has removed the content.")]
    body_text: str
    body_html: str | None
    content_removed_at: Annotated[
        dt.datetime | None, Field(description="Since when retention removes the content of its campaign's emails.")
    ]
    status: str | None
    delivery_status: DeliveryStatus | None
    ses_message_id: str | None
    error_message: str | None
    open_count: int | None
    click_count: int | None
    sent_at: dt.datetime | None
    delivered_at: dt.datetime | None
    opened_at: dt.datetime | None
    clicked_at: dt.datetime | None
    bounced_at: Annotated[dt.datetime | None, Field(description="When it bounced permanently.")]
    soft_bounced_at: Annotated[
        dt.datetime | None, Field(description="When it bounced temporarily; null once it is delivered.")
    ]
    created_at: dt.datetime | None


@router.get(
    "/v1/campaigns/<campaign_id>/scheduled-emails",
    operation_id="list_campaign_scheduled_emails",
    summary="List the scheduled emails of a campaign",
    response_description="Scheduled emails, in the order that `sort` tells.",
    tags=["Campaigns"],
)
def list_campaign_scheduled_emails(
    campaign_id: CampaignId,
    limit: Limit = 50,
    cursor: Cursor = None,
    status: StatusFilter = None,
    step: StepFilter = None,
    lead_id: LeadFilter = None,
    error_code: ErrorCodeFilter = None,
    reason: ReasonFilter = None,
    sort: Order = None,
) -> ScheduledEmailPage:
    with api_resources.transaction() as connection:
        page = scheduled_emails.list_page(
            connection,
            limit,
            cursor,
            campaign_id=campaign_id,
            status=status,
            step=step,
            lead_id=lead_id,
            error_code=error_code,
            reason=reason,
            sort=sort,
        )
    return ScheduledEmailPage.model_validate(page)


class NewScheduledEmail(Input):
    """One more email of a running campaign."""

    lead_id: UUID
    email_template_id: UUID
    step_number: Annotated[
        int,
        Strict(),
        Field(ge=1, le=MAX_STEPS, description="A step that sends this template, or a new step."),
    ] = 1
    delay_minutes: Annotated[
        int, Strict(), Field(ge=0, le=MAX_DELAY // dt.timedelta(minutes=1), description="From now on.")
    ] = 0


@router.post(
    "/v1/campaigns/<campaign_id>/scheduled-emails",
    operation_id="schedule_email",
    summary="Add an email to a running campaign",
    description=(
        "One template to one lead, as one step. What holds for every other email holds for this one when it is due: a "
        "lead that is suppressed or has responded gets nothing."
    ),
    status_code=201,
    response_description="The scheduled email.",
    tags=["Campaigns"],
    openapi_extensions={
        "x-conflict": "The campaign is not running, the lead has this step already, the step sends another template, "
        "or another lead of the campaign has the same address."
    },
)
def schedule_email(
    campaign_id: CampaignId, body: Annotated[NewScheduledEmail, Body()], caller: Acting
) -> ScheduledEmail:
    from sendledger.campaigns.schedule_emails import schedule_email_for_lead  # for cold starts: it brings Jinja2

    delay = dt.timedelta(minutes=body.delay_minutes)
    with api_resources.transaction() as connection:
        row_id = schedule_email_for_lead(
            connection, campaign_id, body.lead_id, body.email_template_id, delay, body.step_number, caller.actor
        )
        return ScheduledEmail.model_validate(scheduled_emails.get(connection, row_id))


@router.get(
    "/v1/scheduled-emails",
    operation_id="list_scheduled_emails",
    summary="List scheduled emails of all campaigns",
    description="`error_code=outcome_unknown` lists those that SES may or may not have sent.",
    response_description="Scheduled emails, in the order that `sort` tells.",
    tags=["Scheduled emails"],
)
def list_scheduled_emails(
    limit: Limit = 50,
    cursor: Cursor = None,
    status: StatusFilter = None,
    lead_id: LeadFilter = None,
    error_code: ErrorCodeFilter = None,
    reason: ReasonFilter = None,
    sort: Order = None,
) -> ScheduledEmailPage:
    with api_resources.transaction() as connection:
        page = scheduled_emails.list_page(
            connection,
            limit,
            cursor,
            status=status,
            lead_id=lead_id,
            error_code=error_code,
            reason=reason,
            sort=sort,
        )
    return ScheduledEmailPage.model_validate(page)


@router.get(
    "/v1/scheduled-emails/<scheduled_email_id>",
    operation_id="get_scheduled_email",
    summary="Get a scheduled email",
    response_description="The scheduled email.",
    tags=["Scheduled emails"],
)
def get_scheduled_email(scheduled_email_id: ScheduledEmailId) -> ScheduledEmail:
    with api_resources.transaction() as connection:
        return ScheduledEmail.model_validate(scheduled_emails.get(connection, scheduled_email_id))


@router.post(
    "/v1/scheduled-emails/<scheduled_email_id>/send",
    operation_id="send_scheduled_email",
    summary="Send a scheduled email now",
    description=(
        "Makes a pending email of a running campaign due now and invokes the sender. A step whose earlier step has not "
        "been sent, or was sent less than the configured gap ago, is refused, because the gap is a minimum."
    ),
    status_code=202,
    response_description="It is due; its status tells when it was sent.",
    tags=["Scheduled emails"],
    openapi_extensions={
        "x-conflict": "It is not pending, its campaign does not run, its sender is disabled, or an earlier step or the "
        "gap is not over."
    },
)
def send_scheduled_email(scheduled_email_id: ScheduledEmailId, caller: Acting) -> ScheduledEmail:
    with api_resources.transaction() as connection:
        due = scheduled_emails.make_due_now(connection, scheduled_email_id, caller.actor)
    event = {"scheduled_email_id": scheduled_email_id, "request_id": router.current_event.request_context.request_id}
    tell_function(api_resources.settings().sender_function_name, event)
    return ScheduledEmail.model_validate(due)


@router.post(
    "/v1/scheduled-emails/<scheduled_email_id>/mark-sent",
    operation_id="mark_scheduled_email_sent",
    summary="Settle an email of unknown outcome as sent",
    description="You know that it went out: the recipient has it, or your SES logs show it.",
    response_description="It is sent.",
    tags=["Scheduled emails"],
    openapi_extensions={"x-conflict": "Its outcome is not unknown."},
)
def mark_scheduled_email_sent(scheduled_email_id: ScheduledEmailId, caller: Acting) -> ScheduledEmail:

    with api_resources.transaction() as connection:
        settle_unknown.mark_sent(connection, scheduled_email_id, caller.actor)
        return ScheduledEmail.model_validate(scheduled_emails.get(connection, scheduled_email_id))


@router.post(
    "/v1/scheduled-emails/<scheduled_email_id>/requeue",
    operation_id="requeue_scheduled_email",
    summary="Send an email of unknown outcome again",
    description=(
        "If SES had accepted it after all, the recipient gets it twice: that is why the sender never does this by "
        "itself. A completed campaign runs again until the email is done."
    ),
    response_description="It is pending, or cancelled by the pause of its campaign.",
    tags=["Scheduled emails"],
    openapi_extensions={
        "x-conflict": (
            "Its outcome is not unknown, its lead was taken out of the campaign, or that was cancelled or has failed."
        )
    },
)
def requeue_scheduled_email(scheduled_email_id: ScheduledEmailId, caller: Acting) -> ScheduledEmail:

    with api_resources.transaction() as connection:
        settle_unknown.requeue(connection, scheduled_email_id, caller.actor)
        return ScheduledEmail.model_validate(scheduled_emails.get(connection, scheduled_email_id))


@router.get(
    "/v1/emails/<email_id>",
    operation_id="get_email",
    summary="Get an email",
    response_description="The email.",
    tags=["Emails"],
)
def get_email(email_id: EmailId) -> Email:
    with api_resources.transaction() as connection:
        return Email.model_validate(emails.get(connection, email_id))
