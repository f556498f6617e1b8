"""The route that shows everything that ever happened with one lead."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal
from uuid import UUID

from aws_lambda_powertools.event_handler.openapi.params import Query
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import Field

import api_resources
from api_fields import Cursor, LeadId, Limit, NextCursor, Resource
from sendledger.core.vocabulary import LeadEvent
from sendledger.feedback import lead_timeline

router = APIGatewayHttpRouter()


class LeadTimelineItem(Resource):
    """One thing that happened."""

    at: dt.datetime
    event: LeadEvent
    campaign_id: UUID | None
    scheduled_email_id: int | None
    step_number: int | None
    variant: Annotated[int | None, Field(description="Of the step, where that has several.")]
    revision: Annotated[int | None, Field(description="Of the campaign's workflow, as the lead came in with it.")]
    subject: Annotated[str | None, Field(description="Of the email that was sent, as it was sent; of the reply.")]
    reason: str | None
    is_machine: Annotated[bool | None, Field(description="Of an open or a click: whether a program did it.")]
    fields: Annotated[list[str] | None, Field(description="The fields that were edited.")]


class LeadTimelinePage(Resource):
    """One page of what happened."""

    items: list[LeadTimelineItem]
    next_cursor: NextCursor


@router.get(
    "/v1/leads/<lead_id>/timeline",
    operation_id="get_lead_timeline",
    summary="What happened with a lead?",
    description="Everything in order: emails and what became of them, replies, edits, suppressions, the erasure.",
    response_description="A page of what happened, the oldest first.",
    tags=["Leads"],
)
def get_lead_timeline(
    lead_id: LeadId,
    limit: Limit = 50,
    cursor: Cursor = None,
    sort: Annotated[Literal["at", "-at"], Query(description="-at: the newest first.")] = "at",
) -> LeadTimelinePage:
    with api_resources.transaction() as connection:
        return LeadTimelinePage.model_validate(lead_timeline.list_page(connection, lead_id, limit, cursor, sort))
