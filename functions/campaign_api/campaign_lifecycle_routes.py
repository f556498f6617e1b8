"""Routes that start, pause, resume, cancel and retry campaigns."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from aws_lambda_powertools.event_handler.openapi.params import Body, Query
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import Field

import api_resources
from api_fields import Acting, CampaignId, ConfirmedContent, Input, LeadId, Resource
from campaign_fields import Campaign
from sendledger.campaigns import campaigns, failed_emails, remove_lead
from sendledger.core.errors import FieldError, InvalidInput
from sendledger.core.vocabulary import CampaignStatus, ErrorCode

router = APIGatewayHttpRouter()
TAGS = ["Campaigns"]

BackgroundWork = Annotated[
    list[dict[str, Any]],
    Field(
        description="What is still being finished in the background; with large campaigns the counts grow until then."
    ),
]


class Started(Resource):
    """What the start did."""

    status: CampaignStatus
    total_leads_targeted: int
    emails_scheduled_count: int
    leads_left_out: Annotated[dict[str, int], Field(description="Leads that are left out, by reason.")]
    scheduled_start_at: dt.datetime | None
    background_work: BackgroundWork


class Paused(Resource):
    """What the pause did."""

    status: CampaignStatus
    emails_cancelled: Annotated[int, Field(description="They become pending again when the campaign is resumed.")]
    emails_in_flight: Annotated[int, Field(description="Already being handed to SES; they still go out.")]
    background_work: BackgroundWork


class Resumed(Resource):
    """What the resume did."""

    status: CampaignStatus
    emails_rescheduled: int
    shifted_by_seconds: Annotated[float, Field(description="The length of the pause.")]
    background_work: BackgroundWork
    refreshed_steps: Annotated[list[int], Field(description="With `refresh_content`: the steps that have new content.")]


class Cancelled(Resource):
    """What the cancellation did."""

    status: CampaignStatus
    emails_cancelled: int
    emails_in_flight: Annotated[int, Field(description="Already being handed to SES; they still go out.")]
    background_work: BackgroundWork


RefreshContent = Annotated[bool, Query(description="Take the content that the template or workflow has now.")]


@router.post(
    "/v1/campaigns/<campaign_id>/start",
    operation_id="start_campaign",
    summary="Start a campaign",
    description=(
        "Schedules all its emails. With `start_type` scheduled it waits for `scheduled_start_at` first. Errors of the "
        "preflight are refused with the problem `not_ready`, in `preflight_errors`. One without content or leads is "
        "refused in either case; `errors` names the fields."
    ),
    response_description="It is running, or scheduled.",
    tags=TAGS,
    openapi_extensions={
        "x-conflict": "Its status (`current_status`) does not allow it, or a lead batch is held by another campaign."
    },
)
def start_campaign(campaign_id: CampaignId, caller: Acting, confirmed_content: ConfirmedContent) -> Started:
    from sendledger.campaigns import lifecycle  # for cold starts: Jinja2
    from sendledger.preflight import preflight  # for cold starts: botocore

    engine, settings = api_resources.engine(), api_resources.settings()
    preflight.refuse_start_unless_ready(engine, campaign_id, settings, api_resources.ses_client)
    started = lifecycle.start_campaign(engine, campaign_id, caller.actor, confirmed_content=confirmed_content)
    return Started.model_validate(started)


@router.post(
    "/v1/campaigns/<campaign_id>/pause",
    operation_id="pause_campaign",
    summary="Pause a campaign",
    response_description="It is paused; no further email is sent.",
    tags=TAGS,
    openapi_extensions={"x-conflict": "Its status (`current_status`) does not allow it."},
)
def pause_campaign(campaign_id: CampaignId, caller: Acting) -> Paused:
    from sendledger.campaigns import lifecycle  # for cold starts: Jinja2

    paused = lifecycle.pause_campaign(api_resources.engine(), campaign_id, caller.actor)
    return Paused.model_validate(paused)


@router.post(
    "/v1/campaigns/<campaign_id>/resume",
    operation_id="resume_campaign",
    summary="Resume a paused campaign",
    description=(
        "Every email moves later by the length of the pause: gaps are kept and nothing goes out in a burst. A started "
        "campaign keeps the content that its template or workflow had at its start. To repair it, correct the template "
        "or the workflow's steps, then resume with `refresh_content=true`: what is not sent yet gets the new content, "
        "which is checked as before a start (`not_ready`, with `preflight_errors`). Delays stay as they are."
    ),
    response_description="It is running again.",
    tags=TAGS,
    openapi_extensions={
        "x-conflict": (
            "Its status (`current_status`) does not allow it, or its content is to be read again while emails are on "
            "their way or of unknown outcome."
        )
    },
)
def resume_campaign(campaign_id: CampaignId, caller: Acting, refresh_content: RefreshContent = False) -> Resumed:
    from sendledger.campaigns import lifecycle  # for cold starts: Jinja2

    engine = api_resources.engine()
    if refresh_content:
        from sendledger.preflight import preflight  # likewise

        preflight.refuse_refresh_unless_ready(engine, campaign_id, api_resources.settings())
    resumed = lifecycle.resume_campaign(engine, campaign_id, caller.actor, refresh_content=refresh_content)
    return Resumed.model_validate(resumed)


@router.post(
    "/v1/campaigns/<campaign_id>/cancel",
    operation_id="cancel_campaign",
    summary="Cancel a campaign permanently",
    response_description="It is cancelled; its lead batches are free.",
    tags=TAGS,
    openapi_extensions={"x-conflict": "Its status (`current_status`) does not allow it."},
)
def cancel_campaign(campaign_id: CampaignId, caller: Acting) -> Cancelled:
    from sendledger.campaigns import lifecycle  # for cold starts: Jinja2

    cancelled = lifecycle.cancel_campaign(api_resources.engine(), campaign_id, caller.actor)
    return Cancelled.model_validate(cancelled)


@router.post(
    "/v1/campaigns/<campaign_id>/unschedule",
    operation_id="unschedule_campaign",
    summary="Make a scheduled campaign a draft again",
    description="It keeps its `scheduled_start_at`, and does nothing until it is started again.",
    response_description="It is a draft.",
    tags=TAGS,
    openapi_extensions={"x-conflict": "It is not scheduled; `current_status` is its status."},
)
def unschedule_campaign(campaign_id: CampaignId, caller: Acting) -> Campaign:
    from sendledger.campaigns import lifecycle  # for cold starts: Jinja2

    lifecycle.unschedule_campaign(api_resources.engine(), campaign_id, caller.actor)
    with api_resources.transaction() as connection:
        return Campaign.model_validate(campaigns.get_campaign(connection, campaign_id, count_leads=True))


class LateEmailsDecision(Input):
    """What to do with the emails that an outage made late."""

    action: Annotated[
        Literal["send", "skip"],
        Field(description="- `send`: They are due now, or at the resume.\n- `skip`: They are never sent."),
    ]


class LateEmailsDecided(Resource):
    """The decision is carried out in the background."""

    status: CampaignStatus
    background_work: BackgroundWork


@router.post(
    "/v1/campaigns/<campaign_id>/late-emails",
    operation_id="decide_late_emails",
    summary="Release or skip the emails that are held for being late",
    description=(
        "After a long outage overdue emails wait for this (`late_hold_until` of the campaign). What is released in a "
        "paused campaign is due when it is resumed."
    ),
    status_code=202,
    response_description="Taken; `background_work` shows what is left to do.",
    tags=TAGS,
    openapi_extensions={"x-conflict": "No emails of this campaign are held."},
)
def decide_late_emails(
    campaign_id: CampaignId, body: Annotated[LateEmailsDecision, Body()], caller: Acting
) -> LateEmailsDecided:
    from sendledger.campaigns import late_emails  # for cold starts: Jinja2

    engine = api_resources.engine()
    late_emails.decide_late_emails(engine, campaign_id, body.action, caller.actor)
    with api_resources.transaction() as connection:
        return LateEmailsDecided.model_validate(campaigns.get_campaign(connection, campaign_id))


class RemovedLead(Resource):
    """What taking the lead out did."""

    status: Annotated[CampaignStatus, Field(description="`completed`, if nothing else was left to send.")]
    emails_cancelled: Annotated[int, Field(description="0: nothing was planned for the lead any more.")]


@router.delete(
    "/v1/campaigns/<campaign_id>/leads/<lead_id>",
    operation_id="remove_campaign_lead",
    summary="Take a lead out of a campaign",
    description=(
        "Cancels what a running or paused campaign still has planned for this lead, with the reason `lead_removed`. "
        "Neither a resume nor `retry-failed` brings it back. Other campaigns go on. The leads of a campaign that has "
        "not started are changed with PATCH."
    ),
    response_description="The lead gets nothing more from this campaign.",
    tags=TAGS,
    openapi_extensions={
        "x-conflict": "The campaign is not under way, is still being scheduled, or an email to the lead is on its way."
    },
)
def remove_campaign_lead(campaign_id: CampaignId, lead_id: LeadId, caller: Acting) -> RemovedLead:
    removed = remove_lead.remove_lead(api_resources.engine(), campaign_id, lead_id, caller.actor)
    return RemovedLead.model_validate(removed)


ErrorCodes = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=100)]] | None,
    Field(
        min_length=1,
        max_length=50,
        description=(
            "Put back those that failed with one of these codes. Without it: those that SES refused or that failed "
            "for a reason that can pass."
        ),
        examples=[["bad_request"]],
    ),
]
ErrorCodesFilter = Annotated[
    list[Annotated[str, Field(pattern="^[a-z_]{1,100}$")]] | None,
    Query(
        min_length=1,
        max_length=50,
        description="Only emails that failed with one of these codes. Without it: as the POST without `error_codes`.",
        examples=[["bad_request"]],
    ),
]


class RetryFailed(Input):
    """Which failed emails are put back."""

    error_codes: ErrorCodes = None


class RetryableEmails(Resource):
    """Failed emails that can be put back."""

    emails: int
    by_error_code: Annotated[dict[str, int], Field(description="How many of them failed with each error code.")]


class RetriedEmails(RetryableEmails):
    """What is put back."""

    status: CampaignStatus
    background_work: BackgroundWork


def _codes(given: list[str] | None) -> list[str] | None:
    if given is not None and ErrorCode.OUTCOME_UNKNOWN in given:
        message = "outcome_unknown is not put back here: SES may have sent these; settle each with mark-sent or requeue"
        raise InvalidInput("The request is not valid.", [FieldError("error_codes", message)])
    return given


@router.get(
    "/v1/campaigns/<campaign_id>/retry-failed",
    operation_id="preview_retry_failed",
    summary="Count the failed emails that can be sent again",
    description="What the POST with the same `error_codes` would put back. Nothing is changed.",
    response_description="How many, by error code.",
    tags=TAGS,
)
def preview_retry_failed(campaign_id: CampaignId, error_codes: ErrorCodesFilter = None) -> RetryableEmails:
    codes = _codes(error_codes)
    with api_resources.transaction() as connection:
        campaigns.get_campaign(connection, campaign_id)
        return RetryableEmails.model_validate(failed_emails.count_failed(connection, campaign_id, codes))


@router.post(
    "/v1/campaigns/<campaign_id>/retry-failed",
    operation_id="retry_failed_emails",
    summary="Send failed emails again",
    description=(
        "Puts back emails that SES certainly did not accept, and later steps that were skipped because of them. Never "
        "one of unknown outcome, never to a lead that is suppressed or has responded by now. In a paused campaign they "
        "go out after the resume; a completed one runs again until they are done."
    ),
    status_code=202,
    response_description="Taken; `background_work` shows what is left to do.",
    tags=TAGS,
    openapi_extensions={"x-conflict": "No email can be put back, or the campaign has ended or was not started."},
)
def retry_failed_emails(campaign_id: CampaignId, body: Annotated[RetryFailed, Body()], caller: Acting) -> RetriedEmails:
    from sendledger.campaigns import lifecycle  # for cold starts: Jinja2

    codes = _codes(body.error_codes)
    retried = lifecycle.retry_failed_emails(api_resources.engine(), campaign_id, codes, caller.actor)
    return RetriedEmails.model_validate(retried)
