"""Routes of the variants of a campaign's steps."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from aws_lambda_powertools.event_handler.openapi.params import Body, Path, Query
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import Field, Strict

import api_resources
from api_fields import Acting, CampaignId, Input, Resource
from sendledger.campaigns import variants, winners
from sendledger.content.workflows import MAX_STEPS, MAX_VARIANTS

router = APIGatewayHttpRouter()

MAX_REVISION = 32_767

StepNumber = Annotated[int, Path(ge=1, le=MAX_STEPS, description="Number of the step.")]
VariantNumber = Annotated[int, Path(ge=1, le=MAX_VARIANTS, description="Number of the variant, from 1.")]


class RetiredVariant(Resource):
    """A retired variant, which is not sent any more."""

    revision: int
    step_number: int
    variant: int
    retired_at: dt.datetime
    replaced_by: Annotated[
        int, Field(description="What goes out in place of an email that a sender had claimed at that moment.")
    ]


class ChosenWinner(Input):
    """The variant that the waiting leads get."""

    variant: Annotated[int, Strict(), Field(ge=1, le=MAX_VARIANTS)]
    revision: Annotated[int, Strict(), Field(ge=1, le=MAX_REVISION)] | None = Field(
        None, description="Of whose leads; without it the newest one."
    )


class DecidedWinner(Resource):
    """The decision of a step."""

    revision: int
    step_number: int
    winner_variant: int
    winner_decided_at: dt.datetime


@router.post(
    "/v1/campaigns/<campaign_id>/steps/<step_number>/winner",
    operation_id="decide_winner",
    summary="Decide the winner of a step now",
    description=(
        "The emails that wait for it go out as this variant: at once, or after the resume of a paused campaign. It "
        "cannot be undone."
    ),
    status_code=202,
    response_description="Decided; the statistics show `background_work` until the emails are due.",
    tags=["Campaigns"],
    openapi_extensions={
        "x-conflict": "The campaign is neither running nor paused, the step tests nothing or has a winner, or the "
        "variant is retired."
    },
)
def decide_winner(
    campaign_id: CampaignId, step_number: StepNumber, body: Annotated[ChosenWinner, Body()], caller: Acting
) -> DecidedWinner:
    with api_resources.transaction() as connection:
        decided = winners.choose(connection, campaign_id, step_number, body.variant, caller.actor, body.revision)
    return DecidedWinner.model_validate(decided)


@router.post(
    "/v1/campaigns/<campaign_id>/steps/<step_number>/variants/<variant>/retire",
    operation_id="retire_variant",
    summary="Retire a variant",
    description=(
        "Its unsent emails are split over the other variants of the step by their weights, in the background; "
        "meanwhile nothing is sent from the campaign. Emails that are on their way still go out. It cannot be undone. "
        "It is retired in each revision in which it has the same template."
    ),
    status_code=202,
    response_description="Taken; the statistics show `background_work` until it is done.",
    tags=["Campaigns"],
    openapi_extensions={
        "x-conflict": "The campaign is neither running nor paused, or the variant is retired or the only one left."
    },
)
def retire_variant(
    campaign_id: CampaignId,
    step_number: StepNumber,
    variant: VariantNumber,
    caller: Acting,
    revision: Annotated[
        int | None, Query(ge=1, le=MAX_REVISION, description="Of whose leads; without it the newest one.")
    ] = None,
) -> RetiredVariant:
    with api_resources.transaction() as connection:
        retired = variants.retire(connection, campaign_id, step_number, variant, caller.actor, revision)
    return RetiredVariant.model_validate(retired)
