"""Routes of segments: saved filters over leads, and the leads that they match now."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any
from uuid import UUID

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Body, Path
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import Field, WithJsonSchema

import api_resources
from api_fields import (
    Acting,
    Cursor,
    Input,
    Limit,
    Name,
    NextCursor,
    Resource,
    ScanLimit,
    Sort,
    SortByTime,
    no_content,
    only_given,
)
from leads_routes import Lead
from sendledger.leads import leads
from sendledger.segments import segments
from sendledger.segments.conditions import KINDS, Condition

router = APIGatewayHttpRouter()
TAGS = ["Segments"]

SegmentId = Annotated[UUID, Path(description="Id of the segment.")]
_EXAMPLE = {
    "kind": "and",
    "conditions": [
        {"kind": "field", "field": "country", "operator": "is", "values": ["Germany", "Austria"]},
        {"kind": "not_contacted_for", "days": 30},
    ],
}
_KINDS = "\n".join(f"- `{kind}`: {meaning}" for kind, meaning in KINDS.items())
# A schema that contains itself is too much for the tools that read the document.
Filter = Annotated[
    Condition,
    WithJsonSchema(
        {
            "type": "object",
            "description": "A tree of at most 50 conditions in at most 6 levels; see docs/segments.md for their forms.",
            "required": ["kind"],
            "properties": {"kind": {"type": "string", "enum": list(KINDS), "description": _KINDS}},
            # What else there is depends on the kind.
            "additionalProperties": True,
            "examples": [_EXAMPLE],
        }
    ),
]


class NewSegment(Input):
    """A filter under a name."""

    name: Name
    filter: Filter


class SegmentChanges(Input):
    """Only the given fields change."""

    name: Name = only_given()
    filter: Filter = only_given()


class Segment(Resource):
    """A saved filter over leads."""

    id: UUID
    name: str
    filter: Annotated[dict[str, Any], Field(description="As it was given, with what was left out.")]
    created_at: dt.datetime
    updated_at: dt.datetime


class SegmentPage(Resource):
    """One page of segments."""

    items: list[Segment]
    next_cursor: NextCursor


class SegmentLeadPage(Resource):
    """One page of the leads that a segment matches now."""

    items: list[Lead]
    count: Annotated[
        int | None,
        Field(
            description="How many leads the segment matches, of those that are looked through, on the first page; null "
            "on the others."
        ),
    ]
    counts_all: Annotated[bool, Field(description="Whether `count` is of all leads.")]
    next_cursor: NextCursor


@router.post(
    "/v1/segments",
    operation_id="create_segment",
    summary="Create a segment",
    description="It holds no leads: it is evaluated whenever it is used.",
    status_code=201,
    response_description="The new segment.",
    tags=TAGS,
)
def create_segment(body: Annotated[NewSegment, Body()], caller: Acting) -> Segment:
    with api_resources.transaction() as connection:
        return Segment.model_validate(segments.create(connection, body.name, body.filter, caller.actor))


@router.get(
    "/v1/segments",
    operation_id="list_segments",
    summary="List segments",
    response_description="Segments, newest first.",
    tags=TAGS,
)
def list_segments(limit: Limit = 50, cursor: Cursor = None, sort: Sort = "-created_at") -> SegmentPage:
    with api_resources.transaction() as connection:
        return SegmentPage.model_validate(segments.list_page(connection, limit, cursor, sort))


@router.get(
    "/v1/segments/<segment_id>",
    operation_id="get_segment",
    summary="Get a segment",
    response_description="The segment.",
    tags=TAGS,
)
def get_segment(segment_id: SegmentId) -> Segment:
    with api_resources.transaction() as connection:
        return Segment.model_validate(segments.get(connection, segment_id))


@router.get(
    "/v1/segments/<segment_id>/leads",
    operation_id="list_segment_leads",
    summary="Which leads does a segment match now?",
    description="Erased leads are in no segment. Whom a campaign would leave out at its start is not left out here.",
    response_description="Leads, newest first.",
    tags=TAGS,
)
def list_segment_leads(
    segment_id: SegmentId,
    limit: Limit = 50,
    cursor: Cursor = None,
    sort: SortByTime = "-created_at",
    scan_limit: ScanLimit = None,
) -> SegmentLeadPage:
    total, counts_all = None, False
    with api_resources.transaction() as connection:
        condition = segments.condition_of(connection, segment_id)
        page = leads.list_page(connection, limit, cursor, condition=condition, sort=sort, scan_limit=scan_limit)
        if cursor is None:
            if scan_limit is None:
                total, counts_all = segments.count(connection, condition), True
            else:
                total, counts_all = leads.count_first(connection, condition, sort, scan_limit)
    found = {"items": page.items, "count": total, "counts_all": counts_all, "next_cursor": page.next_cursor}
    return SegmentLeadPage.model_validate(found)


@router.patch(
    "/v1/segments/<segment_id>",
    operation_id="update_segment",
    summary="Change a segment",
    response_description="The changed segment.",
    tags=TAGS,
    openapi_extensions={
        "x-conflict": "A campaign that has started with it is still being scheduled; `campaigns` names it."
    },
)
def update_segment(segment_id: SegmentId, body: Annotated[SegmentChanges, Body()], caller: Acting) -> Segment:
    with api_resources.transaction() as connection:
        return Segment.model_validate(segments.update(connection, segment_id, body.name, body.filter, caller.actor))


@router.delete(
    "/v1/segments/<segment_id>",
    operation_id="delete_segment",
    summary="Delete a segment",
    description="Its leads stay. Refused while a campaign uses it that has not ended or has failed to start.",
    status_code=204,
    response_description="It is deleted.",
    tags=TAGS,
    openapi_extensions={
        "x-conflict": "Campaigns use it that have not ended or can be started again; `campaigns` names some."
    },
)
def delete_segment(segment_id: SegmentId, caller: Acting) -> Response[None]:
    with api_resources.transaction() as connection:
        segments.delete(connection, segment_id, caller.actor)
    return no_content()
