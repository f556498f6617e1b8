"""Routes by which leads come into an evergreen campaign after its start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

from aws_lambda_powertools.event_handler.openapi.params import Body
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import Field, ValidationError, WithJsonSchema, model_validator

import api_resources
from api_fields import Acting, CampaignId, Input, Resource
from campaign_fields import WorkflowError
from http_errors import field_error
from leads_routes import NewLead
from sendledger.core.errors import FieldError, InvalidInput
from sendledger.core.vocabulary import CampaignStatus, IntakeOutcome
from sendledger.leads import leads

router = APIGatewayHttpRouter()
TAGS = ["Campaigns"]

MOST_IDS = 10_000
MOST_LEADS = 1_000


class AddedLeads(Input):
    """Either ids of leads, or leads by their addresses. Each entry is checked by itself."""

    lead_ids: (
        Annotated[
            list[Any],
            Field(max_length=MOST_IDS),
            WithJsonSchema({"type": "array", "items": {"type": "string"}, "maxItems": MOST_IDS}),
        ]
        | None
    ) = None
    leads: (
        Annotated[
            list[Any],
            Field(max_length=MOST_LEADS),
            WithJsonSchema(
                {
                    "type": "array",
                    "description": "As for `POST /v1/leads`. A lead that is there already is left as it is.",
                    "items": {"type": "object", "additionalProperties": True},
                    "maxItems": MOST_LEADS,
                    "examples": [[{"email": "ann@example.com", "first_name": "Ann"}]],
                }
            ),
        ]
        | None
    ) = None

    @model_validator(mode="after")
    def _one_of_them(self) -> AddedLeads:
        if (self.lead_ids is None) == (self.leads is None):
            raise ValueError("must have either lead_ids or leads")
        return self


class LeadOutcome(Resource):
    """What became of one entry."""

    row: Annotated[int, Field(description="Its place in the list; the first one is 0.")]
    lead_id: UUID
    outcome: IntakeOutcome
    reason: Annotated[str | None, Field(description="Why it is left out, as at a start.")]


class IntakeRowError(Resource):
    """What is wrong with one entry. It was not added; the others were."""

    row: Annotated[int, Field(description="Its place in the list; the first one is 0.")]
    field: str
    message: str


class TakenIn(Resource):
    """What became of the leads."""

    status: CampaignStatus
    leads_added: int
    emails_scheduled: int
    revision: Annotated[int, Field(description="What they get: it grows when the workflow was edited.")]
    leads: list[LeadOutcome]
    errors: list[IntakeRowError]
    workflow_errors: Annotated[
        list[WorkflowError],
        Field(description="Why an edited workflow cannot be sent. The leads get the revision before."),
    ]


@router.post(
    "/v1/campaigns/<campaign_id>/leads",
    operation_id="add_campaign_leads",
    summary="Add leads to an evergreen campaign",
    description=(
        "For an evergreen campaign that is running or paused. The steps of each lead count from now; in a paused "
        "campaign, from the resume. Leads are left out for the reasons of a start. Repeating the request adds nobody "
        "twice. "
        f"At most {MOST_IDS:,} ids or {MOST_LEADS:,} leads, and 150,000 emails to them."
    ),
    response_description="What became of each lead.",
    tags=TAGS,
    openapi_extensions={
        "x-conflict": (
            "The campaign is not evergreen or not under way, its intake has ended, or its emails are being changed."
        )
    },
)
def add_campaign_leads(campaign_id: CampaignId, body: Annotated[AddedLeads, Body()], caller: Acting) -> TakenIn:
    from sendledger.campaigns import intake  # for cold starts: Jinja2

    errors: list[IntakeRowError] = []
    rows = _stored(campaign_id, body.leads, errors) if body.leads is not None else _ids(body.lead_ids or [], errors)
    taken = intake.add_leads(api_resources.engine(), campaign_id, [lead_id for _, lead_id in rows], caller.actor)
    outcomes = []
    for (row, lead_id), (outcome, reason) in zip(rows, taken.outcomes, strict=True):
        if outcome is IntakeOutcome.NO_SUCH_LEAD:
            errors.append(IntakeRowError(row=row, field="lead_ids", message=f"there is no lead with the id {lead_id}"))
        else:
            outcomes.append(LeadOutcome(row=row, lead_id=lead_id, outcome=outcome, reason=reason))
    return TakenIn(
        status=taken.status,
        leads_added=sum(each.outcome is IntakeOutcome.ADDED for each in outcomes),
        emails_scheduled=taken.emails,
        revision=taken.revision,
        leads=outcomes,
        errors=sorted(errors, key=lambda error: error.row),
        workflow_errors=[WorkflowError(field=each.field, message=each.message) for each in taken.problems],
    )


def _ids(given: Sequence[Any], errors: list[IntakeRowError]) -> list[tuple[int, UUID]]:
    found = []
    for row, value in enumerate(given):
        try:
            found.append((row, UUID(value)))
        except (ValueError, TypeError, AttributeError):
            message = "must be a UUID such as 123e4567-e89b-12d3-a456-426614174000"
            errors.append(IntakeRowError(row=row, field="lead_ids", message=message))
    return found


def _stored(campaign_id: UUID, given: Sequence[Any], errors: list[IntakeRowError]) -> list[tuple[int, UUID]]:
    """The leads of the entries that are valid. Those that are new are stored, in a transaction before the intake."""
    from sendledger.campaigns import intake  # for cold starts: Jinja2

    valid: list[tuple[int, dict[str, Any]]] = []
    for row, value in enumerate(given):
        found: Sequence[FieldError] = ()
        try:
            lead = NewLead.model_validate(value)
            fields = lead.model_dump(exclude={"custom_fields"}, exclude_none=True)
            valid.append((row, leads.columns_of(fields, lead.custom_fields)))
        except ValidationError as error:
            found = [field_error({**each, "loc": ("leads", *each["loc"])}) for each in error.errors()]
        except InvalidInput as error:
            found = error.errors
        errors += [IntakeRowError(row=row, field=each.field, message=each.message) for each in found]
    with api_resources.transaction() as connection:
        # Nothing is stored for a campaign that takes in nobody.
        intake.refuse_unless_open(connection, campaign_id)
        ids = leads.find_or_create(connection, [columns for _, columns in valid])
    return [(row, lead_id) for (row, _), lead_id in zip(valid, ids, strict=True)]


class Finished(Resource):
    """The intake has ended."""

    status: Annotated[CampaignStatus, Field(description="`completed`, if nothing was left to send.")]


@router.post(
    "/v1/campaigns/<campaign_id>/finish",
    operation_id="finish_campaign",
    summary="End the intake of an evergreen campaign",
    description=(
        "It takes in no more leads, sends what is planned, and completes when every one of its emails is done. Leads "
        "of imports that it was given before still come in. That cannot be taken back."
    ),
    response_description="It takes in no more leads.",
    tags=TAGS,
    openapi_extensions={"x-conflict": "It is not an evergreen campaign under way, or its intake has ended."},
)
def finish_campaign(campaign_id: CampaignId, caller: Acting) -> Finished:
    from sendledger.campaigns import intake  # for cold starts: Jinja2

    return Finished(status=intake.finish_intake(api_resources.engine(), campaign_id, caller.actor))
