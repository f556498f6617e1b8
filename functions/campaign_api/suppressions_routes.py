"""Routes of suppressions: addresses and domains that get no more mail."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Annotated, Literal
from uuid import UUID

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.exceptions import RequestValidationError
from aws_lambda_powertools.event_handler.openapi.params import Body, Query
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import FailFast, Field, ValidationError

import api_requests
import api_resources
from api_fields import Acting, Cursor, Input, Limit, NextCursor, Resource, SuppressionId, no_content
from csv_bodies import csv_body
from sendledger.campaigns import completion
from sendledger.core.vocabulary import SuppressionReason
from sendledger.feedback import suppressions
from sendledger.leads.read_opt_outs import read_opt_outs

router = APIGatewayHttpRouter()
TAGS = ["Suppressions"]

MOST_ERRORS = 1_000
"""Errors that the answer to an import lists."""

Value = Annotated[
    str,
    Field(
        min_length=1,
        max_length=1_000,
        description="An address, or a domain: then none of its addresses gets mail (its subdomains' do).",
        examples=["ann@example.com", "example.com"],
    ),
]
Note = Annotated[str | None, Field(max_length=2_000)]
_IMPORT_BODY = {
    "required": True,
    "content": {
        api_requests.JSON: {
            "schema": {
                "type": "object",
                "required": ["values"],
                "additionalProperties": False,
                "properties": {
                    "values": {"type": "array", "items": {"type": "string", "maxLength": 1_000}, "maxItems": 200_000},
                    "note": {"anyOf": [{"type": "string", "maxLength": 2_000}, {"type": "null"}]},
                },
            },
            "example": {"values": ["ann@example.com", "example.org"], "note": "From the old system"},
        },
        **api_requests.csv_content("Email,Reason\nann@example.com,unsubscribed\nexample.org,bounced\n"),
    },
}


class NewSuppression(Input):
    value: Value
    campaign_id: Annotated[UUID | None, Field(description="Only this campaign; without it every one.")] = None
    note: Note = None


class SuppressionList(Input):
    """Many at once, from every campaign."""

    # One error is enough: each error costs more than a value.
    values: Annotated[list[Annotated[str, Field(max_length=1_000)]], Field(max_length=200_000), FailFast()]
    note: Note = None


class Suppression(Resource):
    """An address or domain that gets no more mail."""

    id: UUID
    value: str
    campaign_id: Annotated[UUID | None, Field(description="The only campaign that it holds for; null: every one.")]
    reason: SuppressionReason
    note: str | None
    created_by: str | None
    created_at: dt.datetime
    removed_at: dt.datetime | None
    removed_by: str | None
    removal_reason: str | None


class SuppressionPage(Resource):
    """One page of suppressions."""

    items: list[Suppression]
    next_cursor: NextCursor


class AddedSuppression(Suppression):
    """A suppression, and what it stopped."""

    emails_skipped: Annotated[int, Field(description="Planned emails that are not sent because of it.")]


class InvalidEntry(Resource):
    """What is wrong with an entry, and where."""

    row: Annotated[int | None, Field(description="Of a file: the line on which it is; the first one is 1.")]
    field: Annotated[
        str, Field(description="Of a file: the name of its column. Of a list: its position.", examples=["values.2"])
    ]
    message: str


class SuppressionImport(Resource):
    """What became of a list."""

    total: Annotated[int, Field(description="Entries of the list.")]
    added: Annotated[int, Field(description="Addresses and domains that were not suppressed before.")]
    failed: int
    emails_skipped: Annotated[int, Field(description="Planned emails that are not sent because of it.")]
    errors: Annotated[
        list[InvalidEntry],
        Field(description=f"Entries that are neither address nor domain: the first {MOST_ERRORS} of `failed`."),
    ]
    warnings: Annotated[
        list[InvalidEntry],
        Field(description=f"Entries that are suppressed, with a reason that is not known: the first {MOST_ERRORS}."),
    ]


@router.get(
    "/v1/suppressions",
    operation_id="list_suppressions",
    summary="List suppressions",
    response_description="Suppressions, newest first.",
    tags=TAGS,
)
def list_suppressions(
    limit: Limit = 50,
    cursor: Cursor = None,
    value: Annotated[str | None, Query(max_length=1_000, description="The whole address or domain.")] = None,
    reason: Annotated[SuppressionReason | None, Query(description="Only those for this reason.")] = None,
    campaign_id: Annotated[UUID | None, Query(description="Those that hold for this campaign alone.")] = None,
    removed: Annotated[bool, Query(description="Those that were removed, instead of those in force.")] = False,
    sort: Annotated[
        Literal["-created_at", "created_at", "value", "-value"], Query(description="With - before it: downwards.")
    ] = "-created_at",
) -> SuppressionPage:
    with api_resources.transaction() as connection:
        page = suppressions.list_page(
            connection,
            limit,
            cursor,
            value=value,
            reason=reason,
            campaign_id=campaign_id,
            removed=removed,
            sort=sort,
        )
        return SuppressionPage.model_validate(page)


@router.post(
    "/v1/suppressions",
    operation_id="create_suppression",
    summary="Suppress an address or a domain",
    description=(
        "From the next email on nothing is sent to it, and what was planned is skipped with the reason `suppressed`. "
        "Doing it again changes nothing."
    ),
    status_code=201,
    response_description="The suppression that is in force.",
    tags=TAGS,
)
def create_suppression(body: Annotated[NewSuppression, Body()], caller: Acting) -> AddedSuppression:
    with api_resources.transaction() as connection:
        done = suppressions.suppress(
            connection, body.value, SuppressionReason.MANUAL, caller.actor, body.campaign_id, body.note
        )
        value = suppressions.suppression_value(body.value)
        suppression = suppressions.find(connection, value, body.campaign_id)
    _complete(done.campaign_ids)
    return AddedSuppression.model_validate({**suppression, "emails_skipped": done.emails_skipped})


@router.post(
    "/v1/suppressions/import",
    operation_id="import_suppressions",
    summary="Suppress many addresses and domains",
    description=(
        "A JSON list; a text with one address or domain in each line (`text/csv` or `text/plain`); or a CSV file, "
        "which is read as an import of leads is: UTF-8, UTF-16, Windows-1252 or the "
        "charset of the media type; commas, semicolons, tabs or bars. The column with the addresses or domains is "
        "found by its name (Email, Address, Domain, …), in whatever place; without a known name each address counts. "
        "A column that is named Reason, Type or Status gives each row its reason, in the words of other products: "
        "bounced, HardBounce, complained, spam, unsubscribed, opt-out, manual, `550 5.1.1 …`. An address with a "
        "reason that is not known is suppressed all the same, and listed in `warnings`. "
        "Entries that are neither address nor domain are listed as errors and do not keep the others from being "
        "suppressed."
    ),
    response_description="What became of the list.",
    tags=TAGS,
    openapi_extensions={"requestBody": _IMPORT_BODY},
)
def import_suppressions(
    caller: Acting,
    reason: Annotated[
        SuppressionReason, Query(description="The reason of entries that give none, or none that is known.")
    ] = SuppressionReason.IMPORT,
) -> SuppressionImport:
    entries, note = _entries()
    with api_resources.transaction() as connection:
        done = suppressions.import_suppressions(connection, entries, caller.actor, note, reason)
    _complete(done.suppressed.campaign_ids)
    return SuppressionImport.model_validate(
        {
            "total": done.total,
            "added": len(done.suppressed.created),
            "failed": len(done.errors),
            "emails_skipped": done.suppressed.emails_skipped,
            "errors": done.errors[:MOST_ERRORS],
            "warnings": done.warnings[:MOST_ERRORS],
        },
        from_attributes=True,
    )


@router.delete(
    "/v1/suppressions/<suppression_id>",
    operation_id="delete_suppression",
    summary="Remove a suppression",
    description=(
        "The address or domain can be sent to again. Emails that were skipped stay skipped, and the history of bounces "
        "and complaints stays as it is. The suppression stays on record as removed, with the reason given."
    ),
    status_code=204,
    response_description="It is removed.",
    tags=TAGS,
    openapi_extensions={"x-conflict": "It was removed already."},
)
def delete_suppression(
    suppression_id: SuppressionId,
    caller: Acting,
    reason: Annotated[str, Query(min_length=1, max_length=500, pattern=r"\S", description="Why, for the record.")],
) -> Response[None]:
    with api_resources.transaction() as connection:
        suppressions.remove(connection, suppression_id, reason, caller.actor)
    return no_content()


def _entries() -> tuple[Iterable[suppressions.ListEntry], str | None]:
    """What the body lists, and the note for it."""
    event = router.current_event
    if event.headers.get("content-type", "").lower().startswith(api_requests.CSV):
        return read_opt_outs(*csv_body(event)), None
    try:
        given = SuppressionList.model_validate(api_requests.read_json(api_requests.body_bytes(event).decode()))
    except ValidationError as error:
        raise RequestValidationError([{**found, "loc": ("body", *found["loc"])} for found in error.errors()]) from error
    entries = (suppressions.ListEntry(f"values.{index}", text) for index, text in enumerate(given.values))
    return entries, given.note


def _complete(campaign_ids: Iterable[UUID]) -> None:
    """Complete the campaigns that had nothing else to send."""
    for campaign_id in campaign_ids:
        completion.mark_campaign_complete(api_resources.engine(), campaign_id)
