"""Routes of API keys: create, list, revoke."""

from __future__ import annotations

import datetime as dt
from typing import Annotated
from uuid import UUID

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Body, Query
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import Field

import api_resources
from api_fields import Acting, ApiKeyId, Cursor, Input, Instant, Limit, Name, NextCursor, Resource, Sort, no_content
from sendledger.access import api_keys
from sendledger.core.vocabulary import Role

router = APIGatewayHttpRouter()
TAGS = ["API keys"]


class NewApiKey(Input):
    """A key for one person or program."""

    name: Annotated[Name, Field(examples=["Nightly import"])]
    role: Annotated[Role, Field(description="Each role may do what those before it may.")]
    expires_at: Annotated[Instant | None, Field(description="In the future. Null: it does not expire.")] = None


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
def create_api_key(body: Annotated[NewApiKey, Body()], caller: Acting) -> CreatedApiKey:
    with api_resources.transaction() as connection:
        created = api_keys.create(connection, body.name, body.role, body.expires_at, actor=caller.actor)
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
    description="Takes effect immediately and permanently. The key stays in the list.",
    status_code=204,
    response_description="It is revoked.",
    tags=TAGS,
    openapi_extensions={
        "x-conflict": "It is the key that sends this request and `force` is not set, or no other key of an "
        "administrator is valid for as long."
    },
)
def revoke_api_key(
    api_key_id: ApiKeyId,
    caller: Acting,
    force: Annotated[bool, Query(description="Revoke the key even if it is the one that sends this request.")] = False,
) -> Response[None]:
    with api_resources.transaction() as connection:
        api_keys.revoke(connection, api_key_id, caller, force=force)
    return no_content()
