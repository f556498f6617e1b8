"""The route that answers: why is nothing being sent?"""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Annotated, Any

from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import Field

import api_resources
from api_fields import CampaignId, Resource
from sendledger.core.vocabulary import CampaignStatus
from sendledger.preflight import diagnose

router = APIGatewayHttpRouter()


class Diagnosis(Resource):
    """Why a campaign sends nothing, and when it will."""

    campaign_id: uuid.UUID
    status: CampaignStatus
    cause: Annotated[
        str | None,
        Field(
            description=(
                "other_deployment, sender_stopped, no_tick, ses_blocked, campaign_<status>, batch_held, "
                "rows_being_written, window_closed, sender_cap_reached, new_leads_cap_reached, sender_disabled, "
                "senders_died, held_late, waits_for_winner, not_due, waits_for_leads or nothing_left; null: emails are "
                "being sent."
            )
        ),
    ]
    message: str
    next_send_at: Annotated[
        dt.datetime | None, Field(description="When the next email goes out by itself; null: a person has to act.")
    ]
    detail: Annotated[dict[str, Any], Field(description="Data for programs; a count stops at 10,000.")]


@router.get(
    "/v1/campaigns/<campaign_id>/diagnose",
    operation_id="diagnose_campaign",
    summary="Why is nothing being sent?",
    response_description="The first thing that stops the campaign's emails.",
    tags=["Campaigns"],
)
def diagnose_campaign(campaign_id: CampaignId) -> Diagnosis:
    deployment_id = api_resources.settings().deployment_id
    with api_resources.transaction() as connection:
        return Diagnosis.model_validate(diagnose.diagnose(connection, campaign_id, deployment_id))
