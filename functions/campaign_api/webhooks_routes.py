"""Routes of outgoing webhooks: who is told what, and what became of it."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any
from uuid import UUID

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Body, Path, Query
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import Field, Strict, model_validator

import api_resources
from api_fields import (
    LARGEST_ID,
    Acting,
    Cursor,
    Description,
    Flag,
    Input,
    Instant,
    Limit,
    NextCursor,
    Resource,
    SortByTime,
    no_content,
    only_given,
)
from sendledger.core.invoke_function import tell_function
from sendledger.core.vocabulary import WebhookDeliveryStatus, WebhookEventType
from sendledger.webhooks import endpoints, replay

router = APIGatewayHttpRouter()
TAGS = ["Webhooks"]

EndpointId = Annotated[UUID, Path(description="Id of the webhook endpoint.")]
Url = Annotated[str, Field(min_length=1, max_length=2000, examples=["https://example.com/webhooks"])]
EventTypes = Annotated[
    list[WebhookEventType],
    Field(
        min_length=1,
        max_length=50,
        description="Types of events. `email.*` come in large numbers; list them only if you need each.",
        examples=[[WebhookEventType.CAMPAIGN_COMPLETED, WebhookEventType.LEAD_REPLIED]],
    ),
]
CampaignIds = Annotated[
    list[UUID],
    Field(min_length=1, max_length=100, description="Only what is about these campaigns. Null: all that happens."),
]
IncludeAddresses = Annotated[
    Flag, Field(description="Add the lead's address to each event that is about a lead, and what was suppressed.")
]


class NewWebhookEndpoint(Input):
    """A URL, and the events that it gets."""

    url: Annotated[Url, Field(description="Gets a POST for each event. It must answer within 10 seconds.")]
    event_types: EventTypes
    campaign_ids: CampaignIds | None = None
    include_addresses: IncludeAddresses = False
    description: Description | None = None


class WebhookEndpointChanges(Input):
    """Only the given fields change."""

    url: Url = only_given()
    event_types: EventTypes = only_given()
    campaign_ids: CampaignIds | None = None
    include_addresses: IncludeAddresses = only_given()
    description: Description | None = None
    is_enabled: Annotated[
        Flag, Field(description="True: deliver again, what has waited too. False: keep what happens, up to 7 days.")
    ] = only_given()


class WebhookEndpoint(Resource):
    """A webhook endpoint, without its secret."""

    id: UUID
    url: str
    description: str | None
    event_types: list[str]
    campaign_ids: list[UUID] | None
    include_addresses: bool
    is_enabled: bool
    disabled_reason: Annotated[str | None, Field(description="In words. Its events wait up to 7 days.")]
    failures: Annotated[int, Field(description="Attempts that have failed since the last success.")]
    failing_since: dt.datetime | None
    last_delivered_at: dt.datetime | None
    previous_secret_until: Annotated[
        dt.datetime | None, Field(description="Until when the secret before the rotation signs too.")
    ]
    created_by: str
    created_at: dt.datetime
    updated_at: dt.datetime


class WebhookEndpointWithSecret(WebhookEndpoint):
    """A webhook endpoint with its new secret."""

    secret: Annotated[
        str | None, Field(description="Verifies signatures. Shown this once; null in the answer to a repeated request.")
    ]


class WebhookEndpointPage(Resource):
    """One page of webhook endpoints."""

    items: list[WebhookEndpoint]
    next_cursor: NextCursor


class WebhookDelivery(Resource):
    """One event for one endpoint."""

    id: Annotated[int, Field(description="The `webhook-id` header is `evt_` and this number, in every attempt.")]
    event_type: WebhookEventType
    data: dict[str, Any]
    occurred_at: dt.datetime
    status: WebhookDeliveryStatus
    attempts: int
    next_attempt_at: Annotated[dt.datetime | None, Field(description="Null: there will be none.")]
    last_attempt_at: dt.datetime | None
    response_status: Annotated[int | None, Field(description="HTTP status of the last answer; null: there was none.")]
    response_text: Annotated[str | None, Field(description="The first KB of it, or why there was no answer.")]

    @model_validator(mode="before")
    @classmethod
    def _no_further_attempt(cls, value: Any) -> Any:
        row = dict(value)
        return row | ({} if row["status"] == WebhookDeliveryStatus.PENDING else {"next_attempt_at": None})


class WebhookDeliveryPage(Resource):
    """One page of deliveries."""

    items: list[WebhookDelivery]
    next_cursor: NextCursor


class Replay(Input):
    """What to deliver once more."""

    since: Annotated[Instant, Field(description="All that happened since then, what was delivered too.")]
    after: Annotated[int, Strict(), Field(ge=0, le=LARGEST_ID, description="Only ids above this: `next_after`.")] = 0


class Replayed(Resource):
    """What will be delivered once more."""

    events: int
    next_after: Annotated[
        int | None,
        Field(description="Null: all are taken. Else there are more: repeat the request with it as `after`."),
    ]


def _any_target() -> bool:
    return api_resources.settings().webhook_targets == "any"


def _deliver_soon() -> None:
    """Otherwise the next minute does."""
    tell_function(api_resources.settings().webhook_sender_function_name, {})


@router.post(
    "/v1/webhook-endpoints",
    operation_id="create_webhook_endpoint",
    summary="Create a webhook endpoint",
    description=(
        "It gets a POST for each event that it lists, signed as "
        "[Standard Webhooks](https://www.standardwebhooks.com) says: verify it with a library of theirs. At least "
        "once, in no order: keep the `webhook-id`s that you have seen. An answer of 200 to 299 within 10 seconds is a "
        "success; anything else is tried again for 24 hours. Only public addresses are posted to, and redirects are "
        "not followed. At most 20 endpoints."
    ),
    status_code=201,
    response_description="The endpoint; keep its secret, it cannot be shown again.",
    tags=TAGS,
    openapi_extensions={"x-conflict": "There are 20 already."},
)
def create_webhook_endpoint(body: Annotated[NewWebhookEndpoint, Body()], caller: Acting) -> WebhookEndpointWithSecret:
    values = body.model_dump()
    values["event_types"] = list(dict.fromkeys(body.event_types))
    with api_resources.transaction() as connection:
        created = endpoints.create(connection, values, caller.actor, any_target=_any_target())
    return WebhookEndpointWithSecret.model_validate(created)


@router.get(
    "/v1/webhook-endpoints",
    operation_id="list_webhook_endpoints",
    summary="List webhook endpoints",
    response_description="Webhook endpoints, newest first.",
    tags=TAGS,
)
def list_webhook_endpoints(
    limit: Limit = 50, cursor: Cursor = None, sort: SortByTime = "-created_at"
) -> WebhookEndpointPage:
    with api_resources.transaction() as connection:
        return WebhookEndpointPage.model_validate(endpoints.list_page(connection, limit, cursor, sort))


@router.get(
    "/v1/webhook-endpoints/<endpoint_id>",
    operation_id="get_webhook_endpoint",
    summary="Get a webhook endpoint",
    response_description="The webhook endpoint.",
    tags=TAGS,
)
def get_webhook_endpoint(endpoint_id: EndpointId) -> WebhookEndpoint:
    with api_resources.transaction() as connection:
        return WebhookEndpoint.model_validate(endpoints.get(connection, endpoint_id))


@router.patch(
    "/v1/webhook-endpoints/<endpoint_id>",
    operation_id="update_webhook_endpoint",
    summary="Change a webhook endpoint",
    description="Enabling it, or giving it another URL, forgets its failures: what has waited is delivered.",
    response_description="The changed webhook endpoint.",
    tags=TAGS,
)
def update_webhook_endpoint(
    endpoint_id: EndpointId, body: Annotated[WebhookEndpointChanges, Body()], caller: Acting
) -> WebhookEndpoint:
    changes = body.model_dump(exclude_unset=True)
    with api_resources.transaction() as connection:
        changed = endpoints.update(connection, endpoint_id, changes, caller.actor, any_target=_any_target())
    return WebhookEndpoint.model_validate(changed)


@router.delete(
    "/v1/webhook-endpoints/<endpoint_id>",
    operation_id="delete_webhook_endpoint",
    summary="Delete a webhook endpoint",
    description="With everything that was to be delivered to it.",
    status_code=204,
    response_description="It is deleted.",
    tags=TAGS,
)
def delete_webhook_endpoint(endpoint_id: EndpointId, caller: Acting) -> Response[None]:
    with api_resources.transaction() as connection:
        endpoints.delete(connection, endpoint_id, caller.actor)
    return no_content()


@router.post(
    "/v1/webhook-endpoints/<endpoint_id>/rotate-secret",
    operation_id="rotate_webhook_secret",
    summary="Give a webhook endpoint another secret",
    description="For a day events carry a signature of each of the two, so that the receiver can change in between.",
    response_description="The endpoint with its new secret; keep it, it cannot be shown again.",
    tags=TAGS,
)
def rotate_webhook_secret(endpoint_id: EndpointId, caller: Acting) -> WebhookEndpointWithSecret:
    with api_resources.transaction() as connection:
        rotated = endpoints.rotate_secret(connection, endpoint_id, caller.actor)
    return WebhookEndpointWithSecret.model_validate(rotated)


@router.post(
    "/v1/webhook-endpoints/<endpoint_id>/test",
    operation_id="test_webhook_endpoint",
    summary="Send a test event",
    status_code=202,
    response_description="The event, which is delivered in the background; its delivery shows the answer.",
    tags=TAGS,
    openapi_extensions={"x-conflict": "The endpoint is disabled."},
)
def test_webhook_endpoint(endpoint_id: EndpointId) -> WebhookDelivery:
    with api_resources.transaction() as connection:
        added = endpoints.add_test(connection, endpoint_id)
    _deliver_soon()
    return WebhookDelivery.model_validate(added)


@router.post(
    "/v1/webhook-endpoints/<endpoint_id>/replay",
    operation_id="replay_webhook_events",
    summary="Deliver past events once more",
    description="Events are kept for 7 days. Each keeps its `webhook-id`.",
    status_code=202,
    response_description="How many events are delivered once more, in the background.",
    tags=TAGS,
)
def replay_webhook_events(endpoint_id: EndpointId, body: Annotated[Replay, Body()], caller: Acting) -> Replayed:
    done = replay.replay(api_resources.engine(), endpoint_id, body.since, caller.actor, body.after)
    _deliver_soon()
    return Replayed.model_validate(done)


@router.get(
    "/v1/webhook-endpoints/<endpoint_id>/deliveries",
    operation_id="list_webhook_deliveries",
    summary="List the deliveries to a webhook endpoint",
    response_description="Deliveries of the last 7 days, newest first.",
    tags=TAGS,
)
def list_webhook_deliveries(
    endpoint_id: EndpointId,
    limit: Limit = 50,
    cursor: Cursor = None,
    status: Annotated[WebhookDeliveryStatus | None, Query(description="Only those with this status.")] = None,
    event_type: Annotated[WebhookEventType | None, Query(description="Only those of events of this type.")] = None,
) -> WebhookDeliveryPage:
    with api_resources.transaction() as connection:
        page = endpoints.list_deliveries(connection, endpoint_id, limit, cursor, status=status, event_type=event_type)
    return WebhookDeliveryPage.model_validate(page)
