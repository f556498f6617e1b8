"""Routes of API keys: make one, see which there are, end one."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal
from uuid import UUID

from aws_lambda_powertools.event_handler import Request, Response
from aws_lambda_powertools.event_handler.openapi.params import Body
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import AwareDatetime, Field

import api_resources
from api_fields import ApiKeyId, Cursor, Input, Limit, NextCursor, Resource, Sort, no_content
from sendledger.access import api_keys
from sendledger.core import audit_log

router = APIGatewayHttpRouter()
TAGS = ["API keys"]

Role = Literal["viewer", "editor", "sender", "admin"]


class NewApiKey(Input):
    """A key for one person or program."""

    name: Annotated[str, Field(min_length=1, max_length=255, examples=["Nightly import"])]
    role: Annotated[Role, Field(description="Each role may do what those before it may.")]
    expires_at: Annotated[AwareDatetime | None, Field(description="Null: it does not expire.")] = None


class ApiKey(Resource):
    """A key, without its secret."""

    id: UUID
    name: str
    role: Role
    created_at: dt.datetime
    expires_at: dt.datetime | None
    last_used_at: Annotated[dt.datetime | None, Field(description="To the minute.")]
    revoked_at: dt.datetime | None


class CreatedApiKey(Resource):
    """A new key."""

    id: UUID
    name: str
    role: Role
    key: Annotated[str | None, Field(description="Shown this once; null in the answer to a repeated request.")]
    created_at: dt.datetime
    expires_at: dt.datetime | None


class ApiKeyPage(Resource):
    """One page of keys."""

    items: list[ApiKey]
    next_cursor: NextCursor


@router.post(
    "/v1/api-keys",
    operation_id="create_api_key",
    summary="Create an API key",
    status_code=201,
    response_description="The key; keep it, it cannot be shown again.",
    tags=TAGS,
)
def create_api_key(body: Annotated[NewApiKey, Body()], request: Request) -> CreatedApiKey:
    with api_resources.transaction() as connection:
        created = api_keys.create(connection, body.name, body.role, body.expires_at)
        actor = request.context["caller"].actor
        audit_log.record(connection, actor, "api_key.create", "api_key", created.id, {"role": body.role})
    return CreatedApiKey.model_validate(created)


@router.get(
    "/v1/api-keys",
    operation_id="list_api_keys",
    summary="List API keys",
    response_description="Keys, newest first, revoked and expired ones too.",
    tags=TAGS,
)
def list_api_keys(limit: Limit = 50, cursor: Cursor = None, sort: Sort = "-created_at") -> ApiKeyPage:
    with api_resources.transaction() as connection:
        return ApiKeyPage.model_validate(api_keys.list_page(connection, limit, cursor, sort))


@router.delete(
    "/v1/api-keys/<api_key_id>",
    operation_id="revoke_api_key",
    summary="Revoke an API key",
    description="At once and for good. It stays in the list.",
    status_code=204,
    response_description="It is revoked.",
    tags=TAGS,
)
def revoke_api_key(api_key_id: ApiKeyId, request: Request) -> Response[None]:
    with api_resources.transaction() as connection:
        api_keys.revoke(connection, api_key_id)
        audit_log.record(connection, request.context["caller"].actor, "api_key.revoke", "api_key", api_key_id)
    return no_content()
