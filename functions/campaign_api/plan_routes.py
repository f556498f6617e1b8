"""The route that answers: when will the emails of a campaign go?"""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Annotated

from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import Field

import api_resources
from api_fields import CampaignId, Resource
from sendledger.core.vocabulary import Bottleneck, CampaignStatus, NoForecast

router = APIGatewayHttpRouter()


class PlannedEmails(Resource):
    """Emails of one step from one sender on one day."""

    step_number: int
    sender_id: Annotated[uuid.UUID | None, Field(description="Null in a campaign without senders.")]
    emails: int


class PlanDay(Resource):
    """What goes out on a day of the caps (`SendingDayTimeZone`)."""

    date: dt.date
    emails: Annotated[int, Field(description="Of today, those that are still to go.")]
    by_step_and_sender: list[PlannedEmails]
    bottleneck: Annotated[
        Bottleneck | None,
        Field(description="What keeps emails that are due from going out on this day; null: all of them go."),
    ]


class Plan(Resource):
    """When the emails of a campaign go, day by day."""

    campaign_id: uuid.UUID
    status: CampaignStatus
    days: Annotated[list[PlanDay], Field(description="From today to the day of the last email, at most 400 days.")]
    finishes_at: Annotated[
        dt.datetime | None, Field(description="When the last email will have gone; null: see `reason`.")
    ]
    reason: Annotated[NoForecast | None, Field(description="Why `finishes_at` is null.")]


@router.get(
    "/v1/campaigns/<campaign_id>/plan",
    operation_id="plan_campaign",
    summary="When will its emails go?",
    description=(
        "Before the start as if it started now, or at `scheduled_start_at`. The sending schedule, the senders with "
        "their caps, what SES allows, and the campaigns beside it that run or are scheduled are taken into account. "
        "Steps that depend on what becomes of an earlier email are counted as sent."
    ),
    response_description="The emails of each day from today.",
    tags=["Campaigns"],
)
def plan_campaign(campaign_id: CampaignId) -> Plan:
    from sendledger.preflight import plan  # for cold starts: botocore

    ses = plan.ses_limits(api_resources.ses_client, api_resources.settings().sender_rate_safety)
    with api_resources.transaction() as connection:
        found = plan.plan(connection, campaign_id, ses)
    days = [
        PlanDay(
            date=day.date,
            emails=day.emails.total(),
            by_step_and_sender=[
                PlannedEmails(step_number=step, sender_id=sender_id, emails=count)
                for (step, sender_id), count in sorted(day.emails.items(), key=str)
            ],
            bottleneck=day.bottleneck,
        )
        for day in found.days
    ]
    return Plan(
        campaign_id=campaign_id,
        status=CampaignStatus(found.status),
        days=days,
        finishes_at=found.finishes_at,
        reason=found.reason,
    )
