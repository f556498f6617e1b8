"""Routes of leads."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any
from uuid import UUID

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Body, Query
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import Field, field_validator

import api_resources
from api_fields import (
    Acting,
    Cursor,
    Flag,
    IdFilter,
    Input,
    LeadId,
    Limit,
    NextCursor,
    Resource,
    ScanLimit,
    SortByTime,
    ids_in,
    no_content,
    only_given,
)
from sendledger.core.person_names import NAME_PARTS
from sendledger.core.vocabulary import LeadStatus, TimeZoneSource
from sendledger.leads import erase_leads, leads
from sendledger.leads.lead_values import MAX_LENGTH, MAX_TAG, MAX_TAGS

router = APIGatewayHttpRouter()
TAGS = ["Leads"]

Email = Annotated[
    str,
    Field(
        max_length=1000,
        description="Blanks, `mailto:` and a name around it are removed; the domain is stored in its ASCII form.",
        examples=["ann@example.com"],
    ),
]
Text = Annotated[str | None, Field(max_length=MAX_LENGTH["company_name"])]
ShortText = Annotated[str | None, Field(max_length=MAX_LENGTH["country"])]
LongText = Annotated[str | None, Field(max_length=MAX_LENGTH["notes"])]
Size = Annotated[str | None, Field(max_length=MAX_LENGTH["company_size"])]
Url = Annotated[str | None, Field(max_length=MAX_LENGTH["linkedin_url"])]
NamePart = Annotated[
    str | None,
    Field(
        max_length=MAX_LENGTH["first_name"],
        description="Missing: it is taken from `contact_name`, if it is clear there.",
    ),
]
Tags = Annotated[list[Annotated[str, Field(max_length=MAX_TAG)]], Field(max_length=MAX_TAGS)]
CustomFields = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=255)], str | bool | int | float | None],
    Field(
        max_length=500,
        description="Whatever else templates need: `{{ custom_fields.plan }}`. A PATCH replaces all of them.",
        examples=[{"plan": "Pro"}],
    ),
]


TimeZone = Annotated[
    str | None,
    Field(
        max_length=MAX_LENGTH["time_zone"],
        description="A name of the IANA time zone database. Missing: the country counts, if it has one zone only.",
        examples=["Europe/Berlin"],
    ),
]


class _LeadFields(Input):
    company_name: Text = None
    contact_name: Annotated[Text, Field(description="Missing: made of `first_name` and `last_name`.")] = None
    first_name: NamePart = None
    last_name: NamePart = None
    job_title: Text = None
    industry: ShortText = None
    business_type: ShortText = None
    company_size: Size = None
    phone: Size = None
    website: Text = None
    linkedin_url: Url = None
    address: LongText = None
    city: ShortText = None
    country: ShortText = None
    time_zone: TimeZone = None
    notes: LongText = None

    @field_validator("custom_fields", check_fields=False)
    @classmethod
    def _names_have_fields_of_their_own(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value and (taken := [name for name in NAME_PARTS if name in value]):
            raise ValueError(f"must not contain {' or '.join(taken)}, which the lead has a field for")
        return value


class NewLead(_LeadFields):
    """Only the address is needed."""

    email: Email
    tags: Tags = Field(default_factory=list)
    custom_fields: CustomFields = Field(default_factory=dict)


class LeadChanges(_LeadFields):
    """Only the given fields change; null empties one."""

    email: Email = only_given()
    tags: Tags = only_given()
    custom_fields: CustomFields = only_given()
    status: LeadStatus = only_given()


class Lead(Resource):
    """A person at a company."""

    id: UUID
    email: str | None
    company_name: str | None
    contact_name: str | None
    first_name: str | None
    last_name: str | None
    job_title: str | None
    industry: str | None
    business_type: str | None
    company_size: str | None
    phone: str | None
    website: str | None
    linkedin_url: str | None
    address: str | None
    city: str | None
    country: str | None
    time_zone: str | None
    local_time_zone: Annotated[
        str | None, Field(description="What sending schedules go by: `time_zone`, or the only one of the country.")
    ]
    time_zone_source: Annotated[TimeZoneSource, Field(description="What `local_time_zone` is known from.")]
    notes: str | None
    tags: list[str]
    custom_fields: dict[str, Any]
    source: Annotated[str, Field(examples=["csv_import", "api"])]
    status: LeadStatus | None
    batch_id: Annotated[UUID | None, Field(description="The lead batch that it was imported with.")]
    emails_sent: int | None
    last_contacted_at: dt.datetime | None
    last_responded_at: dt.datetime | None
    created_at: dt.datetime | None
    updated_at: dt.datetime | None
    erased_at: Annotated[
        dt.datetime | None, Field(description="When the person's data was erased; the lead stays empty from then on.")
    ]


class LeadPage(Resource):
    """One page of leads."""

    items: list[Lead]
    next_cursor: NextCursor


@router.post(
    "/v1/leads",
    operation_id="create_lead",
    summary="Create a lead",
    status_code=201,
    response_description="The new lead.",
    tags=TAGS,
    openapi_extensions={"x-conflict": "There is a lead with this address, in whatever case; `lead_id` is its id."},
)
def create_lead(body: Annotated[NewLead, Body()]) -> Lead:
    fields = body.model_dump(exclude={"custom_fields"}, exclude_none=True)
    with api_resources.transaction() as connection:
        return Lead.model_validate(leads.create(connection, fields, body.custom_fields))


@router.get(
    "/v1/leads",
    operation_id="list_leads",
    summary="List leads",
    response_description="Leads, newest first.",
    tags=TAGS,
)
def list_leads(
    limit: Limit = 50,
    cursor: Cursor = None,
    ids: IdFilter = None,
    status: Annotated[LeadStatus | None, Query(description="Only those with this status.")] = None,
    batch_id: Annotated[UUID | None, Query(description="Imported with this lead batch.")] = None,
    email: Annotated[str | None, Query(max_length=255, description="The whole address, in whatever case.")] = None,
    search: Annotated[
        str | None, Query(min_length=1, max_length=255, description="Part of company, contact name or address.")
    ] = None,
    sort: SortByTime = "-created_at",
    scan_limit: ScanLimit = None,
) -> LeadPage:
    with api_resources.transaction() as connection:
        return LeadPage.model_validate(
            leads.list_page(
                connection,
                limit,
                cursor,
                ids=ids_in(ids),
                status=status,
                batch_id=batch_id,
                email=email,
                search=search,
                sort=sort,
                scan_limit=scan_limit,
            )
        )


@router.get(
    "/v1/leads/<lead_id>",
    operation_id="get_lead",
    summary="Get a lead",
    response_description="The lead.",
    tags=TAGS,
)
def get_lead(lead_id: LeadId) -> Lead:
    with api_resources.transaction() as connection:
        return Lead.model_validate(leads.get(connection, lead_id))


@router.patch(
    "/v1/leads/<lead_id>",
    operation_id="update_lead",
    summary="Change a lead",
    description="Emails that are still to be sent get the new values.",
    response_description="The changed lead.",
    tags=TAGS,
    openapi_extensions={
        "x-conflict": "There is another lead with this address, `lead_id` is its id; or the lead was erased."
    },
)
def update_lead(lead_id: LeadId, body: Annotated[LeadChanges, Body()], caller: Acting) -> Lead:
    with api_resources.transaction() as connection:
        changed = leads.update(connection, lead_id, body.model_dump(exclude_unset=True), caller.actor)
        return Lead.model_validate(changed)


@router.delete(
    "/v1/leads/<lead_id>",
    operation_id="delete_lead",
    summary="Delete a lead",
    description=(
        "Emails that were sent to it are deleted with it. Its planned emails are skipped with the "
        "reason `lead_deleted`; the rows of the ledger stay, without the lead."
    ),
    status_code=204,
    response_description="It is deleted.",
    tags=TAGS,
    openapi_extensions={"x-conflict": "An email to this lead is on its way at this moment."},
)
def delete_lead(lead_id: LeadId, caller: Acting) -> Response[None]:
    with api_resources.transaction() as connection:
        leads.delete(connection, lead_id, caller.actor)
    return no_content()


class Erasure(Input):
    """What to do with the address."""

    keep_suppressed: Annotated[
        Flag,
        Field(
            description=(
                "true: the address stays as a suppression, and nowhere else, so that it gets no mail even if it is "
                "imported again. false: its suppressions go too; if it is imported again it is a new lead."
            )
        ),
    ]


class ErasedLead(Resource):
    """What the erasure did."""

    lead_id: UUID
    erased_at: dt.datetime
    leads_erased: Annotated[int, Field(description="Every lead with the same address is erased.")]
    emails_erased: Annotated[int, Field(description="Emails that lost their address, subject and bodies.")]
    replies_erased: Annotated[int, Field(description="Replies that were deleted.")]
    emails_skipped: Annotated[int, Field(description="Scheduled emails that will not be sent.")]
    is_suppressed: Annotated[bool, Field(description="The address is kept, as a suppression.")]


@router.post(
    "/v1/leads/<lead_id>/erase",
    operation_id="erase_lead",
    summary="Erase a person's data permanently",
    description=(
        "Empties the lead, the emails that it was sent and what SES reported of them, and deletes its replies. The "
        "rows of the ledger stay, without the lead; what was still to be sent is skipped with the reason "
        "`lead_erased`. Uploaded files and exports with the lead in them are deleted after seven days."
    ),
    response_description="It is erased.",
    tags=TAGS,
    openapi_extensions={"x-conflict": "An email to this lead is on its way at this moment."},
)
def erase_lead(lead_id: LeadId, body: Annotated[Erasure, Body()], caller: Acting) -> ErasedLead:
    with api_resources.transaction() as connection:
        erased = erase_leads.erase(connection, lead_id, caller.actor, keep_suppressed=body.keep_suppressed)
    return ErasedLead.model_validate(erased)
