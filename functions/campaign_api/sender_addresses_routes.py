"""Routes of senders: the addresses that campaigns send from."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any
from uuid import UUID

import sqlalchemy as sa
from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Body
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import Field, Strict, ValidationInfo, field_validator

import api_resources
from api_fields import (
    INT32_MAX,
    Acting,
    Cursor,
    Flag,
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
from sendledger.campaigns import reassign_leads
from sendledger.core.vocabulary import SenderAddressStatus
from sendledger.policy import budgets, sender_addresses

router = APIGatewayHttpRouter()
TAGS = ["Sender addresses"]

Emails = Annotated[int, Strict(), Field(ge=1, le=1_000_000)]
DailyCap = Annotated[
    Annotated[int, Strict(), Field(ge=1, le=INT32_MAX)] | None,
    Field(description="The most emails that go from this address on one day (`SendingDayTimeZone`); null: no limit."),
]


class Ramp(Input):
    """A cap that grows: `start` on the first day, and `step` more with each day on which it sent, up to `ceiling`."""

    start: Emails
    step: Emails
    ceiling: Emails

    @field_validator("ceiling")
    @classmethod
    def _grows(cls, ceiling: int, info: ValidationInfo) -> int:
        if ceiling < info.data.get("start", 0):
            raise ValueError(f"must not be less than start, which is {info.data['start']}")
        return ceiling


GrowingCap = Annotated[
    Ramp | None,
    Field(description="A growing cap, for a new address; null: none. With `daily_cap` the lower of the two counts."),
]
Spread = Annotated[
    Flag, Field(description="What a cap allows on a day is spread evenly over the hours in which the sender may send.")
]


class NewSenderAddress(Input):
    """An address that campaigns send from. SES must have verified it or its domain."""

    from_address: Mailbox
    reply_to_address: Annotated[Mailbox | None, Field(description="Null: that of the campaign.")] = None
    daily_cap: DailyCap = None
    ramp: GrowingCap = None
    spread: Spread = True
    status: SenderAddressStatus = SenderAddressStatus.ACTIVE


class SenderAddressChanges(Input):
    """Only the given fields change."""

    from_address: Mailbox = only_given()
    reply_to_address: Mailbox | None = None
    daily_cap: DailyCap = None
    ramp: GrowingCap = None
    spread: Spread = only_given()
    status: SenderAddressStatus = only_given()


class SenderAddress(Resource):
    """An address that campaigns send from."""

    id: UUID
    from_address: str
    reply_to_address: str | None
    daily_cap: int | None
    ramp: Ramp | None
    spread: bool
    status: SenderAddressStatus
    cap_today: Annotated[int | None, Field(description="What `daily_cap` and `ramp` allow today; null: no limit.")]
    sent_today: Annotated[
        int, Field(description="What counts against it: emails sent today, on their way, and of unknown outcome.")
    ]
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
        created = sender_addresses.create(connection, body.model_dump(), caller.actor)
        return _shown(connection, [created])[0]


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
        page = sender_addresses.list_page(connection, limit, cursor, sort)
        return SenderAddressPage(items=_shown(connection, page.items), next_cursor=page.next_cursor)


@router.get(
    "/v1/senders/<sender_id>",
    operation_id="get_sender_address",
    summary="Get a sender",
    response_description="The sender.",
    tags=TAGS,
)
def get_sender_address(sender_id: SenderAddressId) -> SenderAddress:
    with api_resources.transaction() as connection:
        return _shown(connection, [sender_addresses.get(connection, sender_id)])[0]


@router.patch(
    "/v1/senders/<sender_id>",
    operation_id="update_sender_address",
    summary="Change a sender",
    description="Counts at once, also for campaigns that run. What a disabled sender has to send waits until it is "
    "active again. SES must have verified a new address if campaigns under way have the sender.",
    response_description="The changed sender.",
    tags=TAGS,
    openapi_extensions=_CONFLICT,
)
def update_sender_address(
    sender_id: SenderAddressId, body: Annotated[SenderAddressChanges, Body()], caller: Acting
) -> SenderAddress:
    changes = body.model_dump(exclude_unset=True)
    if "from_address" in changes:
        from sendledger.preflight import preflight  # for cold starts: botocore

        preflight.refuse_unverified_address(
            api_resources.engine(),
            sender_id,
            changes["from_address"],
            api_resources.settings(),
            api_resources.ses_client,
        )
    with api_resources.transaction() as connection:
        changed = sender_addresses.update(connection, sender_id, changes, caller.actor)
        return _shown(connection, [changed])[0]


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


class Reassignment(Input):
    """The sender that takes over."""

    to: UUID


class ReassignedLeads(Resource):
    """What was handed over."""

    campaigns: Annotated[int, Field(description="Campaigns with leads that were moved.")]
    leads_moved: int
    emails_moved: int
    leads_kept: Annotated[int, Field(description="Leads that have had an email and keep their sender for the rest.")]
    leads_left: Annotated[int, Field(description="Leads that can be moved by another call: one moves 20,000.")]


@router.post(
    "/v1/senders/<sender_id>/reassign",
    operation_id="reassign_sender_address",
    summary="Hand the leads of a sender over to another one",
    description="In all campaigns that have not ended, the leads that have had nothing yet get their emails from `to`. "
    "A lead that has had an email keeps its sender for all steps. Leads that come in later go to `to` and the other "
    "senders. SES must have verified the address of `to`.",
    response_description="How many were moved.",
    tags=TAGS,
)
def reassign_sender_address(
    sender_id: SenderAddressId, body: Annotated[Reassignment, Body()], caller: Acting
) -> ReassignedLeads:
    from sendledger.preflight import preflight  # for cold starts: botocore

    preflight.refuse_unverified_sender(
        api_resources.engine(), body.to, "to", api_resources.settings(), api_resources.ses_client
    )
    with api_resources.transaction() as connection:
        return ReassignedLeads.model_validate(
            asdict(reassign_leads.reassign(connection, sender_id, body.to, caller.actor))
        )


def _shown(connection: sa.Connection, rows: Sequence[sa.RowMapping | dict[str, Any]]) -> list[SenderAddress]:
    uses = budgets.uses_of(connection, rows, budgets.sending_day_now(connection))
    return [
        SenderAddress.model_validate({**row, "cap_today": uses[row["id"]].cap, "sent_today": uses[row["id"]].used})
        for row in rows
    ]
