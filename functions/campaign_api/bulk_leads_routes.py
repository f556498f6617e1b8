"""Routes that change many leads at once."""

from __future__ import annotations

import datetime as dt
import time
from typing import Annotated
from uuid import UUID

from aws_lambda_powertools.event_handler.openapi.params import Body, Path
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import Field, model_validator

import api_resources
from api_fields import Acting, Input, Resource
from leads_routes import CustomFields, Tags
from sendledger.core.invoke_function import tell_function
from sendledger.core.vocabulary import LeadStatus
from sendledger.leads import change_leads

router = APIGatewayHttpRouter()
TAGS = ["Leads"]

CALL_SECONDS = 2.0
"""How long a call works itself. The function of imports does the rest."""


class LeadFilter(Input):
    """Which leads: those for which all of these are true. At least one is needed."""

    segment_id: Annotated[
        UUID | None, Field(description="Those that it matches; evaluated while they are changed.")
    ] = None
    status: LeadStatus | None = None
    batch_id: Annotated[UUID | None, Field(description="Imported with this lead batch.")] = None
    email: Annotated[str | None, Field(min_length=1, max_length=255, description="The whole address.")] = None
    search: Annotated[
        str | None, Field(min_length=1, max_length=255, description="Part of company, contact name or address.")
    ] = None

    @model_validator(mode="after")
    def _not_all_leads(self) -> LeadFilter:
        if not self.model_dump(exclude_none=True):
            raise ValueError("must have at least one condition")
        return self


class LeadValues(Input):
    """What to change. What is not named stays."""

    add_tags: Tags = Field(default_factory=list)
    remove_tags: Tags = Field(default_factory=list)
    custom_fields: Annotated[CustomFields, Field(description="Set these; null removes one.")] = Field(
        default_factory=dict
    )


class NewLeadChange(Input):
    """A change of many leads."""

    filter: LeadFilter
    changes: LeadValues


class LeadChange(Resource):
    """How far a change of many leads is."""

    id: UUID
    add_tags: list[str]
    remove_tags: list[str]
    leads_total: Annotated[int, Field(description="How many leads the filter matched at the request.")]
    leads_done: Annotated[int, Field(description="How many leads it has looked at.")]
    leads_changed: Annotated[
        int,
        Field(
            description="How many of them it has changed. The others were so already, or would have had too many tags."
        ),
    ]
    requested_by: str
    created_at: dt.datetime
    updated_at: dt.datetime
    completed_at: dt.datetime | None


@router.post(
    "/v1/leads/bulk",
    operation_id="change_leads",
    summary="Change tags and custom fields of many leads",
    description=(
        "Of all leads that the filter matches. Many leads are changed in the background; the answer says how far it is."
    ),
    status_code=202,
    response_description="The change.",
    tags=TAGS,
)
def change_leads_in_bulk(body: Annotated[NewLeadChange, Body()], caller: Acting) -> LeadChange:
    began, changes = time.monotonic(), body.changes
    with api_resources.transaction() as connection:
        condition = change_leads.condition_of(connection, body.filter.model_dump())
        created = change_leads.create(
            connection, condition, changes.add_tags, changes.remove_tags, changes.custom_fields, caller.actor
        )
    if change_leads.work(api_resources.engine(), created["id"], began + CALL_SECONDS):
        files = api_resources.file_settings()
        event = {"bucket": files.file_bucket, "lead_change_id": str(created["id"])}
        tell_function(files.lead_import_function_name, event)
    return get_lead_change(created["id"])


@router.get(
    "/v1/lead-changes/<lead_change_id>",
    operation_id="get_lead_change",
    summary="How far is a change of many leads?",
    response_description="The change.",
    tags=TAGS,
)
def get_lead_change(lead_change_id: Annotated[UUID, Path(description="Id of the change.")]) -> LeadChange:
    with api_resources.transaction() as connection:
        return LeadChange.model_validate(change_leads.get(connection, lead_change_id))
