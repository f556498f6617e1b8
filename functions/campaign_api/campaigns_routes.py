"""Routes of campaigns as drafts and records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args
from uuid import UUID

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Body, Query
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import Field

import api_access
import api_resources
from api_fields import (
    Acting,
    CampaignId,
    Cursor,
    IdFilter,
    Input,
    Limit,
    Name,
    NextCursor,
    Resource,
    ids_in,
    no_content,
)
from campaign_fields import Campaign, CampaignChanges, NewCampaign
from sendledger.campaigns import campaigns, duplicates, left_out_leads
from sendledger.campaigns.transitions import is_startable
from sendledger.core.vocabulary import CampaignStatus, CampaignType, Reason, described

router = APIGatewayHttpRouter()
TAGS = ["Campaigns"]
# `vocabulary.LEFT_OUT_REASONS`, as a type.
LeftOutReason = Literal[
    Reason.NO_ADDRESS,
    Reason.INVALID_ADDRESS,
    Reason.LEAD_RESPONDED,
    Reason.LEAD_NOT_INTERESTED,
    Reason.LEAD_CONVERTED,
    Reason.LEAD_INVALID,
    Reason.SUPPRESSED,
    Reason.DUPLICATE_ADDRESS,
]
_LEFT_OUT = described(get_args(LeftOutReason))


class LeftOutLead(Resource):
    """A lead of the campaign's audience that gets nothing from it."""

    lead_id: Annotated[UUID | None, Field(description="Null: the lead was deleted or erased.")]
    reason: Annotated[LeftOutReason, Field(description=_LEFT_OUT)]
    email: Annotated[str | None, Field(description="Of today, as the names are.")]
    company_name: str | None
    contact_name: str | None


class LeftOutLeadPage(Resource):
    """One page of left out leads."""

    items: list[LeftOutLead]
    next_cursor: NextCursor


class CampaignPage(Resource):
    """One page of campaigns."""

    items: list[Campaign]
    next_cursor: NextCursor


@router.post(
    "/v1/campaigns",
    operation_id="create_campaign",
    summary="Create a campaign",
    description="It is a draft until it is started. Leads and content can be added until then.",
    status_code=201,
    response_description="The new draft.",
    tags=TAGS,
)
def create_campaign(body: Annotated[NewCampaign, Body()], caller: Acting) -> Campaign:
    with api_resources.transaction() as connection:
        return Campaign.model_validate(
            campaigns.create(connection, body.model_dump(exclude={"lead_ids"}), body.lead_ids, caller.actor)
        )


@router.get(
    "/v1/campaigns",
    operation_id="list_campaigns",
    summary="List campaigns",
    response_description="Campaigns, newest first.",
    tags=TAGS,
)
def list_campaigns(
    limit: Limit = 50,
    cursor: Cursor = None,
    ids: IdFilter = None,
    status: Annotated[CampaignStatus | None, Query(description="Only those with this status.")] = None,
    type_: Annotated[CampaignType | None, Query(alias="type", description="Only those of this type.")] = None,
    needs_attention: Annotated[
        bool | None,
        Query(
            description="Whether a person is needed: it is paused or failed, or waits to start, with a "
            "`failure_reason`; or it is running and holds late emails or has `workflow_errors`."
        ),
    ] = None,
    sort: Annotated[
        Literal["-created_at", "created_at", "-name", "name", "-actual_started_at", "actual_started_at"],
        Query(description="With - before it: downwards. Those that have not started count as older than all others."),
    ] = "-created_at",
) -> CampaignPage:
    with api_resources.transaction() as connection:
        return CampaignPage.model_validate(
            campaigns.list_page(
                connection,
                limit,
                cursor,
                ids=ids_in(ids),
                status=status,
                type_=type_,
                needs_attention=needs_attention,
                sort=sort,
            )
        )


@router.get(
    "/v1/campaigns/<campaign_id>",
    operation_id="get_campaign",
    summary="Get a campaign",
    response_description="The campaign.",
    tags=TAGS,
)
def get_campaign(campaign_id: CampaignId) -> Campaign:
    with api_resources.transaction() as connection:
        return Campaign.model_validate(campaigns.get_campaign(connection, campaign_id, count_leads=True))


@router.get(
    "/v1/campaigns/<campaign_id>/left-out-leads",
    operation_id="list_left_out_leads",
    summary="Which leads did the start leave out, and why?",
    description=(
        "The reasons are those of the start, whatever has become of the leads since. `leads_left_out` of the campaign "
        "counts them. A lead that was deleted or erased leaves an entry without its id."
    ),
    response_description="Left out leads by reason.",
    tags=TAGS,
)
def list_left_out_leads(
    campaign_id: CampaignId,
    limit: Limit = 50,
    cursor: Cursor = None,
    reason: Annotated[LeftOutReason | None, Query(description=_LEFT_OUT)] = None,
) -> LeftOutLeadPage:
    with api_resources.transaction() as connection:
        return LeftOutLeadPage.model_validate(
            left_out_leads.list_page(connection, campaign_id, limit, cursor, reason=reason)
        )


@router.patch(
    "/v1/campaigns/<campaign_id>",
    operation_id="update_campaign",
    summary="Change a campaign",
    description="Name, description, guardrails and caps of new leads can always be changed; `end_at` and `intake` of "
    "an evergreen campaign too, while it takes in leads, by the role sender: a new `intake` counts from now. The rest "
    "can be changed before the campaign starts: while it is a draft, is scheduled, or has failed to start. A scheduled "
    "campaign keeps what a start needs: a change with which it could not start is refused as a start is, also with the "
    "problem `not_ready`.",
    response_description="The changed campaign.",
    tags=TAGS,
    openapi_extensions={
        "x-conflict": "The campaign has started, or takes in no leads any more; `current_status` is its status."
    },
)
def update_campaign(campaign_id: CampaignId, body: Annotated[CampaignChanges, Body()], caller: Acting) -> Campaign:
    changes = body.model_dump(exclude_unset=True, exclude={"lead_ids"})
    lead_ids = body.lead_ids if "lead_ids" in body.model_fields_set else None
    # The role matters only where `update` does not refuse the change of a campaign under way altogether.
    is_possible = lead_ids is None and changes.keys() <= campaigns.ALWAYS_CHANGEABLE.union(campaigns.INTAKE)
    if changes.keys() & {"sender_ids", "from_address"}:
        _refuse_unverified_senders(campaign_id, changes)
    with api_resources.transaction() as connection:
        if is_possible and changes.keys() & set(campaigns.INTAKE):
            current = campaigns.get_campaign(connection, campaign_id, lock=True)
            if not is_startable(current):
                api_access.authorize_intake(caller)
        changed = campaigns.update(connection, campaign_id, changes, lead_ids, caller.actor)
        is_scheduled = changed["status"] == CampaignStatus.SCHEDULED
        if is_scheduled and not body.model_fields_set <= campaigns.WITHOUT_CHECK:
            from sendledger.preflight import preflight  # for cold starts: Jinja2

            preflight.refuse_change_unless_ready(connection, campaign_id, api_resources.settings())
        return Campaign.model_validate(changed)


def _refuse_unverified_senders(campaign_id: UUID, changes: Mapping[str, Any]) -> None:
    """Before the transaction of the change, as SES is asked."""
    with api_resources.transaction() as connection:
        current = campaigns.get_campaign(connection, campaign_id)
    if current["status"] == CampaignStatus.SCHEDULED:
        from sendledger.preflight import preflight  # for cold starts: Jinja2

        engine, settings = api_resources.engine(), api_resources.settings()
        preflight.refuse_unverified_change(engine, current, changes, settings, api_resources.ses_client)


class Duplicate(Input):
    """What is different in the duplicate."""

    name: Annotated[Name | None, Field(description="Missing: that of the campaign, behind `Copy of`.")] = None


@router.post(
    "/v1/campaigns/<campaign_id>/duplicate",
    operation_id="duplicate_campaign",
    summary="Duplicate a campaign as a draft",
    description=(
        "Whatever its status, everything is taken over but its leads and results: give the draft lead batches, "
        "segments or leads before it starts. A scheduled start is kept while it is in the future. The content is what "
        "the template or workflow has now."
    ),
    status_code=201,
    response_description="The new draft.",
    tags=TAGS,
)
def duplicate_campaign(campaign_id: CampaignId, body: Annotated[Duplicate, Body()], caller: Acting) -> Campaign:
    with api_resources.transaction() as connection:
        duplicate = duplicates.duplicate(connection, campaign_id, body.name, caller.actor)
        return Campaign.model_validate(duplicate)


@router.delete(
    "/v1/campaigns/<campaign_id>",
    operation_id="delete_campaign",
    summary="Delete a campaign",
    description="Its rows of the ledger are deleted too. Refused while it is scheduled, running or paused.",
    status_code=204,
    response_description="It is deleted.",
    tags=TAGS,
    openapi_extensions={"x-conflict": "The campaign is under way; `current_status` is its status."},
)
def delete_campaign(campaign_id: CampaignId, caller: Acting) -> Response[None]:
    with api_resources.transaction() as connection:
        campaigns.delete(connection, campaign_id, caller.actor)
    return no_content()
