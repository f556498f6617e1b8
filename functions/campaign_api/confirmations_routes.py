"""Routes of confirmations: a person lets an assistant do one thing."""

from __future__ import annotations

import datetime as dt
from typing import Annotated
from uuid import UUID

from aws_lambda_powertools.event_handler.openapi.params import Body
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import Field

import api_access
import api_resources
import confirmed_requests
from api_fields import Acting, Input, Resource
from confirmed_requests import ConfirmedOperation
from route_table import route_named
from sendledger.campaigns import campaigns
from sendledger.core import audit_log
from sendledger.core.vocabulary import AuditAction
from sendledger.leads import leads

router = APIGatewayHttpRouter()


class NewConfirmation(Input):
    """What is confirmed."""

    operation: ConfirmedOperation
    id: Annotated[UUID, Field(description="Of the campaign; for `erase` of the lead.")]


class Confirmation(Resource):
    """A confirmation."""

    token: Annotated[
        str | None,
        Field(description="The header `Sendledger-Confirmation` of the request; null in a repeated answer."),
    ]
    operation: ConfirmedOperation
    id: UUID
    expires_at: dt.datetime


@router.post(
    "/v1/confirmations",
    operation_id="create_confirmation",
    summary="Confirm one operation for somebody else",
    description=(
        "Whoever sends the token with the request, in the header `Sendledger-Confirmation`, needs no role for it. So "
        "an assistant whose key has the role editor can start a campaign once a person has said so. The token is for "
        "one operation on one campaign or lead, and holds for ten minutes. A start is confirmed with the content that "
        "the campaign has now: one at a later time sends that, or fails. A resume is confirmed without "
        "`refresh_content`. To confirm, one needs the role of the operation."
    ),
    status_code=201,
    response_description="The confirmation.",
    tags=["Confirmations"],
    openapi_extensions={
        "x-conflict": "This deployment has no keys to sign with.",
        "x-not-found": "There is no such campaign or lead.",
    },
)
def create_confirmation(body: Annotated[NewConfirmation, Body()], caller: Acting) -> Confirmation:
    name = confirmed_requests.ROUTES[body.operation]
    api_access.authorize(caller, route_named(name))
    with api_resources.transaction() as connection:
        is_lead = body.operation is ConfirmedOperation.ERASE
        if is_lead:
            leads.get(connection, body.id)
        else:
            campaigns.get_campaign(connection, body.id)
        made = confirmed_requests.confirm(connection, body.operation, str(body.id))
        kind, detail = "lead" if is_lead else "campaign", {"operation": body.operation}
        audit_log.record(connection, caller.actor, AuditAction.CONFIRMATION_CREATE, kind, body.id, detail)
    return Confirmation(token=made.token, operation=body.operation, id=body.id, expires_at=made.expires_at)
