"""Routes of the sender: its state, and how to resume it."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import Field

import api_resources
from api_fields import Acting, Resource
from sendledger.ledger import sender_state

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
