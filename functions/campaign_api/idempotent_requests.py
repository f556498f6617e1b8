"""Requests with an Idempotency-Key are executed once. A repeated one gets the answer of the first.

A request and the way to answer it go in, the answer comes out. Reads and writes `idempotency_keys`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2

import api_requests
import api_resources
from route_table import Route
from sendledger.access import idempotency
from sendledger.access.callers import Caller
from sendledger.core.errors import FieldError, InvalidInput

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
"""Marks the answer to a repeated request."""

MUTATING = ("POST", "PUT", "PATCH", "DELETE")
_KEY = re.compile(r"[!-~]{1,255}")
_SECRETS: Mapping[str, tuple[str, ...]] = {
    "POST /v1/api-keys": ("key",),
    "POST /v1/confirmations": ("token",),
    "POST /v1/lead-batches/uploads": ("upload_url", "form"),
    "POST /v1/email-templates/<email_template_id>/attachments/uploads": ("upload_url",),
    "POST /v1/webhook-endpoints": ("secret",),
    "POST /v1/webhook-endpoints/<endpoint_id>/rotate-secret": ("secret",),
}
"""Fields with credentials. They are shown once and not stored: in a repeated answer they are null."""

HttpAnswer = dict[str, Any]


def answer_once(
    request: APIGatewayProxyEventV2, route: Route, caller: Caller | None, answer: Callable[[], HttpAnswer]
) -> HttpAnswer:
    """Answer the request, or repeat the stored answer of its key. Our own errors (5xx) are not stored.

    Raises:
        InvalidInput: the key is malformed, or was used for another request.
        RequestInProgress: the first request with this key has not been answered yet.
    """
    key = request.headers.get(HEADER.lower())
    if key is None or caller is None or request.http_method not in MUTATING:
        return answer()
    if not _KEY.fullmatch(key):
        raise InvalidInput(
            "The request is not valid.", [FieldError(HEADER, "must be 1 to 255 printable ASCII characters")]
        )
    body = api_requests.body_bytes(request)
    hash_ = idempotency.request_hash(request.http_method, request.path, request.raw_query_string, body)
    with api_resources.transaction() as connection:
        kept = idempotency.begin(connection, caller.id, key, hash_)
    if kept is not None:
        return {**kept.answer, "headers": {**kept.answer["headers"], REPLAYED: "true"}}
    try:
        answered = answer()
    except BaseException:
        _forget(caller, key)
        raise
    if answered["statusCode"] >= 500:
        _forget(caller, key)
    else:
        with api_resources.transaction() as connection:
            idempotency.keep(connection, caller.id, key, answered["statusCode"], _without_secret(answered, route))
    return answered


def _forget(caller: Caller, key: str) -> None:
    with api_resources.transaction() as connection:
        idempotency.forget(connection, caller.id, key)


def _without_secret(answer: HttpAnswer, route: Route) -> HttpAnswer:
    names = _SECRETS.get(route.name)
    if names is None or answer["statusCode"] >= 300:
        return answer
    return {**answer, "body": json.dumps({**json.loads(answer["body"]), **dict.fromkeys(names)})}
