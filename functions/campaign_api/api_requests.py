"""What a request must look like before its route sees it: size, media type, well-formed JSON, storable strings.

A payload-2.0 event goes in; what is wrong is raised as `RequestRefused` or `InvalidInput`.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.api_gateway import ApiGatewayResolver
from aws_lambda_powertools.event_handler.middlewares import NextMiddleware
from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2

from http_errors import Problem, RequestRefused
from sendledger.core.errors import FieldError, InvalidInput

METHODS_WITH_BODY = ("POST", "PUT", "PATCH")
JSON = "application/json"
CSV = "text/csv"
MEDIA_TYPES_OF: Mapping[str, tuple[str, ...]] = {
    "POST /v1/lead-batches": (CSV,),
    "POST /v1/suppressions/import": (JSON, CSV),
}
"""The routes that take something else than JSON; they read the body themselves."""
MAX_BYTES: Mapping[str, int] = {JSON: 3_000_000, CSV: 4_500_000}
"""Lambda takes events up to 6 MB, and API Gateway may encode a body as base64, a third longer.
https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""

_OTHERWISE: Mapping[str, str] = {"POST /v1/lead-batches": " Upload a larger file with POST /v1/lead-batches/uploads."}
_UNSTORABLE_ESCAPE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
"""How NUL, which PostgreSQL cannot store, and half of a surrogate pair are written in JSON."""
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_UNSTORABLE_MESSAGE = "must not contain the character NUL or half of a surrogate pair"


def check(event: APIGatewayProxyEventV2, route_name: str) -> None:
    """Refuse what no route could use.

    Raises:
        RequestRefused: 400, 413, 415.
        InvalidInput: the query has characters that cannot be stored.
    """
    _refuse_unstorable(dict(event.query_string_parameters))
    content_type = event.headers.get("content-type", "")
    if event.http_method not in METHODS_WITH_BODY or not (event.body or content_type):
        return
    possible = MEDIA_TYPES_OF.get(route_name, (JSON,))
    media_type = content_type.partition(";")[0].strip()
    if media_type not in possible:
        raise RequestRefused(
            Problem(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                f"The body must be sent with Content-Type: {' or '.join(possible)}.",
                headers={"Accept": ", ".join(possible)},
            )
        )
    body = body_bytes(event)
    if len(body) > MAX_BYTES[media_type]:
        raise RequestRefused(
            Problem(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "too_large",
                f"The body has {len(body)} bytes; {MAX_BYTES[media_type]} are possible."
                + _OTHERWISE.get(route_name, ""),
            )
        )
    if media_type == JSON:
        _decode(body)


def body_bytes(event: APIGatewayProxyEventV2) -> bytes:
    """The body as it was sent.

    Raises:
        RequestRefused: 400, it is not base64 although the event says so.
    """
    body = event.body or ""
    if not event.is_base64_encoded:
        return body.encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error:
        raise _malformed("The body cannot be decoded.") from None


def read_json(text: str) -> dict[str, Any]:
    """The JSON object that a body holds.

    Raises:
        RequestRefused: 400, it is not JSON.
        InvalidInput: it is not an object, or has characters that cannot be stored.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise _malformed(
            f"The body is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from None
    except RecursionError:
        raise _malformed("The body is not valid JSON: it is nested too deeply.") from None
    except ValueError as error:
        raise _malformed(f"The body is not valid JSON: {error}.") from None
    if not isinstance(value, dict):
        raise InvalidInput("The request is not valid.", [FieldError("body", "must be a JSON object")])
    if _UNSTORABLE_ESCAPE.search(text):
        _refuse_unstorable(value)
    return value


def _decode(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise _malformed("The body is not valid JSON: it is not UTF-8.") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number in JSON")


def _refuse_unstorable(value: dict[str, Any]) -> None:
    found = [FieldError(path, _UNSTORABLE_MESSAGE) for path in _unstorable(value, "")]
    if found:
        raise InvalidInput("The request is not valid.", found)


def _unstorable(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, str):
        if _UNSTORABLE.search(value):
            yield path
    elif isinstance(value, dict):
        for name, item in value.items():
            shown = _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", name)
            below = f"{path}.{shown}" if path else shown
            if shown != name:
                yield below
            else:
                yield from _unstorable(item, below)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unstorable(item, f"{path}.{index}")


def refuse_unknown(app: ApiGatewayResolver, next_middleware: NextMiddleware) -> Response[Any]:
    """Middleware: query parameters that the route does not have are refused, and fields where it takes no body.

    Raises:
        InvalidInput: it names them.
    """
    route = app.context["_route"].dependant
    event = app.current_event
    sent = list(event.query_string_parameters)
    unknown = [name for name in sent if name not in {param.alias for param in route.query_params}]
    if (
        not route.body_params
        and event.http_method in METHODS_WITH_BODY
        and f"{event.http_method} {event.path}" not in MEDIA_TYPES_OF
        and JSON in event.headers.get("content-type", "")
    ):
        unknown += event.json_body or {}
    if unknown:
        raise InvalidInput("The request is not valid.", [FieldError(name, "is not a known field") for name in unknown])
    return next_middleware(app)


def _malformed(detail: str) -> RequestRefused:
    return RequestRefused(Problem(HTTPStatus.BAD_REQUEST, "malformed_json", detail))
