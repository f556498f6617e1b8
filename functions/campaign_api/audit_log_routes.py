"""The route of the audit log: who did what."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

from aws_lambda_powertools.event_handler.openapi.params import Query
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import Field

import api_resources
from api_fields import Cursor, Limit, NextCursor, Resource, SortById
from sendledger.core import audit_log
from sendledger.core.vocabulary import AuditAction

router = APIGatewayHttpRouter()

LONGEST_ACTOR = 520
"""Room for the longest issuer and the longest subject."""
LONGEST = 255


class AuditLogEntry(Resource):
    """One deed."""

    id: int
    occurred_at: dt.datetime
    actor: Annotated[str, Field(description="api_key:<id>, jwt:<issuer>#<subject>, recipient, or sendledger itself.")]
    action: Annotated[str, Field(examples=[AuditAction.CAMPAIGN_START])]
    entity_type: str
    entity_id: str
    detail: dict[str, Any]


class AuditLogPage(Resource):
    """One page of the audit log."""

    items: list[AuditLogEntry]
    next_cursor: NextCursor


@router.get(
    "/v1/audit-log",
    operation_id="list_audit_log",
    summary="Who did what?",
    description="Entries are never changed and never removed.",
    response_description="Entries in the order in which they were made, or in the opposite one.",
    tags=["Audit log"],
)
def list_audit_log(
    limit: Limit = 50,
    cursor: Cursor = None,
    actor: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=LONGEST_ACTOR,
            description="Only what this one did, written as in the entries.",
            examples=["api_key:0d7d2a0e-6f3c-4b6e-9c6b-3a1f0f6d5c11"],
        ),
    ] = None,
    action: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=LONGEST,
            description="Only deeds of this kind.",
            examples=[AuditAction.CAMPAIGN_START],
        ),
    ] = None,
    entity_type: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=LONGEST,
            description="Only what was done to things of this kind.",
            examples=["lead"],
        ),
    ] = None,
    entity_id: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=LONGEST,
            description="Only what was done to the thing with this id.",
            examples=["7b1d2a0e-6f3c-4b6e-9c6b-3a1f0f6d5c12"],
        ),
    ] = None,
    sort: SortById = "id",
) -> AuditLogPage:
    with api_resources.transaction() as connection:
        page = audit_log.list_page(
            connection,
            limit,
            cursor,
            actor=actor,
            action=action,
            entity_type=entity_type,
            entity_id=entity_id,
            sort=sort,
        )
    return AuditLogPage.model_validate(page)
