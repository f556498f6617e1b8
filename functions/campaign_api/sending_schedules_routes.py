"""Routes of sending schedules."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any
from uuid import UUID

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Body
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import BeforeValidator, Field

import api_resources
from api_fields import (
    Acting,
    Cursor,
    Input,
    Limit,
    Name,
    NextCursor,
    Resource,
    SendingScheduleId,
    Sort,
    no_content,
    only_given,
)
from sendledger.core.vocabulary import ZoneOf
from sendledger.policy import sending_schedules

router = APIGatewayHttpRouter()
TAGS = ["Sending schedules"]


def _date_only(value: Any) -> Any:
    # pydantic would take a number for seconds since 1970.
    if isinstance(value, dt.date):
        return value
    if not isinstance(value, str) or len(value) != len("2026-12-25"):
        raise ValueError("must be a date such as 2026-12-25")
    return value


TimeOfDay = Annotated[str, Field(pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$", examples=["09:00"])]
Spans = Annotated[
    list[Annotated[list[TimeOfDay], Field(min_length=2, max_length=2)]],
    Field(
        max_length=24,
        description="Pairs of local times, each open from the first and closed from the second on; `24:00` ends a day.",
        examples=[[["09:00", "12:00"], ["13:00", "17:00"]]],
    ),
]
TimeZone = Annotated[
    str,
    Field(
        min_length=1,
        max_length=64,
        description="A name of the IANA time zone database.",
        examples=["Europe/Berlin"],
    ),
]
Holidays = Annotated[
    list[Annotated[dt.date, BeforeValidator(_date_only, json_schema_input_type=dt.date)]],
    Field(max_length=1000, description="Local dates on which nothing is sent.", examples=[["2026-12-25"]]),
]


class Week(Input):
    """When it is open on each day of the week; on a day that is left out it is closed."""

    mon: Spans = Field(default_factory=list)
    tue: Spans = Field(default_factory=list)
    wed: Spans = Field(default_factory=list)
    thu: Spans = Field(default_factory=list)
    fri: Spans = Field(default_factory=list)
    sat: Spans = Field(default_factory=list)
    sun: Spans = Field(default_factory=list)


class NewSendingSchedule(Input):
    """The hours in which campaigns with this schedule may send."""

    name: Name
    time_zone: TimeZone
    zone_of: Annotated[ZoneOf, Field(description="Whose local time the hours and holidays are.")] = ZoneOf.LEAD
    hours: Week
    holidays: Holidays = Field(default_factory=list)


class SendingScheduleChanges(Input):
    """Only the given fields change; `hours` and `holidays` replace those before."""

    name: Name = only_given()
    time_zone: TimeZone = only_given()
    zone_of: ZoneOf = only_given()
    hours: Week = only_given()
    holidays: Holidays = only_given()


class SendingSchedule(Resource):
    """The hours in which campaigns with this schedule may send."""

    id: UUID
    name: str
    time_zone: str
    zone_of: ZoneOf
    hours: Week
    holidays: list[dt.date]
    created_at: dt.datetime
    updated_at: dt.datetime


class SendingSchedulePage(Resource):
    """One page of sending schedules."""

    items: list[SendingSchedule]
    next_cursor: NextCursor


@router.post(
    "/v1/sending-schedules",
    operation_id="create_sending_schedule",
    summary="Create a sending schedule",
    description="A campaign names it as `sending_schedule_id`; a campaign without one sends at any time.",
    status_code=201,
    response_description="The new sending schedule.",
    tags=TAGS,
)
def create_sending_schedule(body: Annotated[NewSendingSchedule, Body()], caller: Acting) -> SendingSchedule:
    with api_resources.transaction() as connection:
        created = sending_schedules.create(connection, body.model_dump(), caller.actor)
        return SendingSchedule.model_validate(created)


@router.get(
    "/v1/sending-schedules",
    operation_id="list_sending_schedules",
    summary="List sending schedules",
    response_description="Sending schedules, newest first.",
    tags=TAGS,
)
def list_sending_schedules(limit: Limit = 50, cursor: Cursor = None, sort: Sort = "-created_at") -> SendingSchedulePage:
    with api_resources.transaction() as connection:
        return SendingSchedulePage.model_validate(sending_schedules.list_page(connection, limit, cursor, sort))


@router.get(
    "/v1/sending-schedules/<sending_schedule_id>",
    operation_id="get_sending_schedule",
    summary="Get a sending schedule",
    response_description="The sending schedule.",
    tags=TAGS,
)
def get_sending_schedule(sending_schedule_id: SendingScheduleId) -> SendingSchedule:
    with api_resources.transaction() as connection:
        return SendingSchedule.model_validate(sending_schedules.get(connection, sending_schedule_id))


@router.patch(
    "/v1/sending-schedules/<sending_schedule_id>",
    operation_id="update_sending_schedule",
    summary="Change a sending schedule",
    description="Counts at once, also for campaigns that run.",
    response_description="The changed sending schedule.",
    tags=TAGS,
)
def update_sending_schedule(
    sending_schedule_id: SendingScheduleId, body: Annotated[SendingScheduleChanges, Body()], caller: Acting
) -> SendingSchedule:
    with api_resources.transaction() as connection:
        changes = body.model_dump(exclude_unset=True)
        changed = sending_schedules.update(connection, sending_schedule_id, changes, caller.actor)
        return SendingSchedule.model_validate(changed)


@router.delete(
    "/v1/sending-schedules/<sending_schedule_id>",
    operation_id="delete_sending_schedule",
    summary="Delete a sending schedule",
    status_code=204,
    response_description="It is deleted.",
    tags=TAGS,
    openapi_extensions={"x-conflict": "Campaigns have this schedule; `campaigns` names them."},
)
def delete_sending_schedule(sending_schedule_id: SendingScheduleId, caller: Acting) -> Response[None]:
    with api_resources.transaction() as connection:
        sending_schedules.delete(connection, sending_schedule_id, caller.actor)
    return no_content()
