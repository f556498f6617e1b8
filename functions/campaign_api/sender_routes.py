"""Routes of the sender: its state, and how to resume it."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import Field

import api_resources
from api_fields import Acting, Cursor, Limit, NextCursor, Resource
from sendledger.ledger import sender_state, sender_ticks

router = APIGatewayHttpRouter()
TAGS = ["Sender"]


class Sender(Resource):
    """What all senders share."""

    deployment_id: Annotated[str | None, Field(description="The deployment that sends from this database.")]
    last_tick_at: Annotated[dt.datetime | None, Field(description="When a sender was last free to send.")]
    stop_code: Annotated[str | None, Field(description="Why sending is stopped, as a code; null: it is not stopped.")]
    stop_reason: Annotated[str | None, Field(description="Why sending is stopped, in the words of SES.")]
    stopped_until: Annotated[
        dt.datetime | None, Field(description="When it continues by itself; null with a stop_code: when you resume it.")
    ]


class Tick(Resource):
    """What one tick of the sender did."""

    id: int
    ended_at: dt.datetime
    is_further: Annotated[bool, Field(description="Another tick had started it, to help with what was due.")]
    claimed: Annotated[int, Field(description="Emails that it took up.")]
    sent: int
    failed: int
    skipped: int
    unknown: Annotated[int, Field(description="Emails of earlier ticks whose outcome it gave up waiting for.")]
    rate: Annotated[float, Field(description="Emails a second that SES allowed, less the safety margin.")]
    stopped: Annotated[
        str | None, Field(description="What kept it from sending: a code, a colon and a text; null: nothing did.")
    ]


class TickPage(Resource):
    """One page of ticks."""

    items: list[Tick]
    next_cursor: NextCursor


@router.get(
    "/v1/sender",
    operation_id="get_sender",
    summary="Is sending stopped?",
    response_description="The state that all senders share.",
    tags=TAGS,
)
def get_sender() -> Sender:
    with api_resources.transaction() as connection:
        return Sender.model_validate(sender_state.read(connection))


@router.get(
    "/v1/sender/ticks",
    operation_id="list_sender_ticks",
    summary="What did the sender do last?",
    description="The sender ticks every minute, and when a tick has more to send than one sender can, it starts "
    "others. The last 10,000 ticks are kept.",
    response_description="Ticks, the last one first.",
    tags=TAGS,
)
def list_sender_ticks(limit: Limit = 50, cursor: Cursor = None) -> TickPage:
    with api_resources.transaction() as connection:
        return TickPage.model_validate(sender_ticks.list_page(connection, limit, cursor))


@router.post(
    "/v1/sender/resume",
    operation_id="resume_sender",
    summary="Resume sending",
    description="Call this after the cause is solved: credentials, a suspended account, a paused account.",
    response_description="Sending goes on with the next tick.",
    tags=TAGS,
    openapi_extensions={"x-conflict": "Sending is not stopped."},
)
def resume_sender(caller: Acting) -> Sender:
    with api_resources.transaction() as connection:
        sender_state.clear_stop(connection, caller.actor)
        return Sender.model_validate(sender_state.read(connection))
