"""Routes of senders: the addresses that campaigns send from."""

from __future__ import annotations

import datetime as dt
from typing import Annotated
from uuid import UUID

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Body
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import Field, Strict

import api_resources
from api_fields import (
    INT32_MAX,
    Acting,
    Cursor,
    Input,
    Limit,
    Mailbox,
    NextCursor,
    Resource,
    SenderAddressId,
    SortByTime,
    no_content,
    only_given,
)
from sendledger.core.vocabulary import SenderAddressStatus
from sendledger.policy import sender_addresses

router = APIGatewayHttpRouter()
TAGS = ["Sender addresses"]

DailyCap = Annotated[
    Annotated[int, Strict(), Field(ge=1, le=INT32_MAX)] | None,
    Field(description="The most emails that go out from this address on one day of UTC; null: no limit."),
]


class NewSenderAddress(Input):
    """An address that campaigns send from. SES must have verified it or its domain."""

    from_address: Mailbox
    reply_to_address: Annotated[Mailbox | None, Field(description="Null: that of the campaign.")] = None
    daily_cap: DailyCap = None
    status: SenderAddressStatus = SenderAddressStatus.ACTIVE


class SenderAddressChanges(Input):
    """Only the given fields change."""

    from_address: Mailbox = only_given()
    reply_to_address: Mailbox | None = None
    daily_cap: DailyCap = None
    status: SenderAddressStatus = only_given()


class SenderAddress(Resource):
    """An address that campaigns send from."""

    id: UUID
    from_address: str
    reply_to_address: str | None
    daily_cap: int | None
    status: SenderAddressStatus
    created_at: dt.datetime
    updated_at: dt.datetime


class SenderAddressPage(Resource):
    """One page of senders."""

    items: list[SenderAddress]
    next_cursor: NextCursor


_CONFLICT = {"x-conflict": "There is a sender with this address."}


@router.post(
    "/v1/senders",
    operation_id="create_sender_address",
    summary="Create a sender",
    description="A campaign names it in `sender_ids`; its leads are split evenly over its senders.",
    status_code=201,
    response_description="The new sender.",
    tags=TAGS,
    openapi_extensions=_CONFLICT,
)
def create_sender_address(body: Annotated[NewSenderAddress, Body()], caller: Acting) -> SenderAddress:
    with api_resources.transaction() as connection:
        return SenderAddress.model_validate(sender_addresses.create(connection, body.model_dump(), caller.actor))


@router.get(
    "/v1/senders",
    operation_id="list_sender_addresses",
    summary="List senders",
    response_description="Senders, newest first.",
    tags=TAGS,
)
def list_sender_addresses(
    limit: Limit = 50, cursor: Cursor = None, sort: SortByTime = "-created_at"
) -> SenderAddressPage:
    with api_resources.transaction() as connection:
        return SenderAddressPage.model_validate(sender_addresses.list_page(connection, limit, cursor, sort))


@router.get(
    "/v1/senders/<sender_id>",
    operation_id="get_sender_address",
    summary="Get a sender",
    response_description="The sender.",
    tags=TAGS,
)
def get_sender_address(sender_id: SenderAddressId) -> SenderAddress:
    with api_resources.transaction() as connection:
        return SenderAddress.model_validate(sender_addresses.get(connection, sender_id))


@router.patch(
    "/v1/senders/<sender_id>",
    operation_id="update_sender_address",
    summary="Change a sender",
    description="Counts at once, also for campaigns that run. What a disabled sender has to send waits until it is "
    "active again.",
    response_description="The changed sender.",
    tags=TAGS,
    openapi_extensions=_CONFLICT,
)
def update_sender_address(
    sender_id: SenderAddressId, body: Annotated[SenderAddressChanges, Body()], caller: Acting
) -> SenderAddress:
    with api_resources.transaction() as connection:
        changes = body.model_dump(exclude_unset=True)
        return SenderAddress.model_validate(sender_addresses.update(connection, sender_id, changes, caller.actor))


@router.delete(
    "/v1/senders/<sender_id>",
    operation_id="delete_sender_address",
    summary="Delete a sender",
    status_code=204,
    response_description="It is deleted.",
    tags=TAGS,
    openapi_extensions={"x-conflict": "Campaigns have this sender; `campaigns` names them."},
)
def delete_sender_address(sender_id: SenderAddressId, caller: Acting) -> Response[None]:
    with api_resources.transaction() as connection:
        sender_addresses.delete(connection, sender_id, caller.actor)
    return no_content()
