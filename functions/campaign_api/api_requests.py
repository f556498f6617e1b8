"""Checks of a request before its route runs: size, media type, well-formed JSON, storable values.

A payload-2.0 event goes in; errors are raised as `RequestRefused` or `InvalidInput`.
"""

from __future__ import annotations

import base64
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.api_gateway import ApiGatewayResolver
from aws_lambda_powertools.event_handler.middlewares import NextMiddleware
from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2

from http_errors import MOST_ERRORS, Problem, RequestRefused
from sendledger.core.errors import FieldError, InvalidInput

METHODS_WITH_BODY = ("POST", "PUT", "PATCH")
JSON = "application/json"
CSV = "text/csv"
FORM = "multipart/form-data"
TEXT = "text/plain"
MEDIA_TYPES_OF: Mapping[str, tuple[str, ...]] = {
    "POST /v1/lead-batches": (CSV, FORM),
    "POST /v1/suppressions/import": (JSON, CSV, FORM, TEXT),
}
"""The routes that take other types than JSON. They read the body themselves. The CSV file of a form replaces the body
before the route runs."""
MAX_PARTS = 250
"""Parts of a form. Of the API one is used, of the console's form of imports one for each column."""
MAX_BYTES = 3_000_000
"""Lambda takes events of up to 6 MB. API Gateway sends text as a JSON string, in which quotes and line breaks take two
bytes; a larger body may not reach this code, and its sender would not read what to do instead.
https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""

_OTHERWISE: Mapping[str, str] = {
    "POST /v1/lead-batches": " Upload a larger file with POST /v1/lead-batches/uploads.",
    "POST /v1/email-templates/<email_template_id>/attachments": " Upload a larger file: see …/attachments/uploads.",
}
MAX_LINES = 100_000
"""Lines of a CSV file in a request. It must be processed before the timeout of API Gateway."""
MAX_DEPTH = 32
"""Levels of objects and lists in a body."""
MAX_VALUES = 300_000
"""Texts, numbers, objects and lists in a body; the longest list that a route takes has 200,000."""
MAX_MEMBERS = 1_000
"""Members of one object; the largest that a route takes has 500."""

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
"""NUL, which PostgreSQL cannot store, and half of a surrogate pair."""
_UNSTORABLE_MESSAGE = "must not contain the character NUL or half of a surrogate pair"


def csv_content(example: str) -> dict[str, Any]:
    """The OpenAPI description of a CSV file: the body, or the part `file` of a form, as generated clients and web pages
    send it."""
    file = {"type": "string", "format": "binary", "description": "The CSV file."}
    form = {"type": "object", "title": "CsvForm", "required": ["file"], "properties": {"file": file}}
    return {CSV: {"schema": {"type": "string", "format": "binary"}, "example": example}, FORM: {"schema": form}}


def check(event: APIGatewayProxyEventV2, route_name: str) -> None:
    """Refuse requests that no route could use.

    Raises:
        RequestRefused: 400, 413, 415.
        InvalidInput: the query has characters that cannot be stored.
    """
    _refuse_unstorable(dict(event.query_string_parameters))
    content_type = event.headers.get("content-type", "")
    if event.http_method not in METHODS_WITH_BODY or not (event.body or content_type):
        return
    possible = MEDIA_TYPES_OF.get(route_name, (JSON,))
    media_type, _, parameters = content_type.partition(";")
    media_type = media_type.strip().lower()
    if media_type not in possible:
        raise RequestRefused(
            Problem(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                f"The body must be sent with Content-Type: {' or '.join(possible)}.",
                headers={"Accept": ", ".join(possible)},
            )
        )
    if media_type == TEXT:
        media_type = CSV  # of one column
    # Media types are case-insensitive. powertools and the routes compare this lower-case form.
    event.raw_event["headers"]["content-type"] = f"{media_type};{parameters}"
    body = body_bytes(event)
    if len(body) > MAX_BYTES:
        raise RequestRefused(
            Problem(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "too_large",
                f"The body has {len(body):,} bytes; {MAX_BYTES:,} are possible.{_OTHERWISE.get(route_name, '')}",
            )
        )
    lines = max(body.count(b"\n"), body.count(b"\r"))
    if media_type == CSV and lines > MAX_LINES:
        raise RequestRefused(
            Problem(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "too_large",
                f"The file has {lines:,} lines; {MAX_LINES:,} are possible.{_OTHERWISE.get(route_name, '')}",
            )
        )
    if media_type == JSON:
        _decode(body)
    elif media_type == FORM:
        event.raw_event["headers"]["content-type"] = CSV
        file = base64.b64encode(_file_in(body, parameters)).decode()
        event.raw_event.update({"body": file, "isBase64Encoded": True})


def _file_in(form: bytes, parameters: str) -> bytes:
    """The part `file` of a form.

    Raises:
        InvalidInput: there is none.
    """
    found = form_part(form, parameters, "file")
    if found is None:
        raise InvalidInput("The request is not valid.", [FieldError("file", "is not a part of the form")])
    return found[1]


def form_part(form: bytes, parameters: str, name: str) -> tuple[bytes, bytes] | None:
    """Head and content of the part of this name in a form: https://www.rfc-editor.org/rfc/rfc7578"""
    return next(form_parts(form, parameters, name), None)


def form_parts(form: bytes, parameters: str, name: str) -> Iterator[tuple[bytes, bytes]]:
    """All parts of this name, as `form_part`."""
    boundary = re.search(r'boundary=(?:"([^"]{1,70})"|([^\s";,]{1,70}))', parameters)
    if boundary is None:
        return
    delimiter = b"\r\n--" + (boundary[1] or boundary[2]).encode("latin-1", "replace")
    disposition = re.compile(rb'(?i)content-disposition:[^\r\n]*\bname="?%s\b' % name.encode())
    for part in (b"\r\n" + form).split(delimiter, MAX_PARTS)[1:MAX_PARTS]:
        head, found, content = part.partition(b"\r\n\r\n")
        if found and len(head) < 1_000 and disposition.search(head):
            yield head, content


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
    except ValueError:
        raise _malformed("The body cannot be decoded.") from None


def read_json(text: str) -> dict[str, Any]:
    """The JSON object that a body holds.

    Raises:
        RequestRefused: 400, it is not JSON, or nested too deeply.
        InvalidInput: it is not an object, or has values that cannot be stored.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise _malformed(
            f"The body is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise _malformed(f"The body is not valid JSON: {error}.") from None
    if not isinstance(value, dict):
        raise InvalidInput("The request is not valid.", [FieldError("body", "must be a JSON object")])
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
    found = [FieldError(path, message) for path, message in itertools.islice(_unstorable(value), MOST_ERRORS)]
    if found:
        raise InvalidInput("The request is not valid.", found)


def _unstorable(value: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Where something cannot be stored, and why. Not recursive, because a caller chooses the depth of the body."""
    left: list[tuple[str, int, Any]] = [("", 0, value)]
    values = 0
    while left:
        path, depth, item = left.pop()
        values += 1
        if isinstance(item, str):
            if _UNSTORABLE.search(item):
                yield path, _UNSTORABLE_MESSAGE
        elif isinstance(item, int | float):
            if not _is_finite(item):
                yield path, "is too large for a number"
        elif isinstance(item, dict | list):
            if depth == MAX_DEPTH:
                raise _too_deep()
            if isinstance(item, dict) and len(item) > MAX_MEMBERS:
                yield path or "body", f"must have at most {MAX_MEMBERS:,} members"
                return
            if values + len(left) + len(item) > MAX_VALUES:
                yield path or "body", f"is too much: a request may have {MAX_VALUES:,} values"
                return
            pairs = item.items() if isinstance(item, dict) else enumerate(item)
            for name, below in pairs:
                shown = _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", str(name))
                if shown != str(name):
                    yield f"{path}.{shown}".lstrip("."), _UNSTORABLE_MESSAGE
                else:
                    left.append((f"{path}.{shown}" if path else shown, depth + 1, below))


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer beyond the largest float
        return False


def _too_deep() -> RequestRefused:
    return _malformed(f"The body is nested more than {MAX_DEPTH} levels deep.")


def refuse_unknown(app: ApiGatewayResolver, next_middleware: NextMiddleware) -> Response[Any]:
    """Middleware: refuses unknown query parameters, and a body if the route takes none. Public routes, which have no
    caller, accept anything, for health checks of all kinds.

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
    if unknown and app.context.get("caller") is not None:
        raise InvalidInput("The request is not valid.", [FieldError(name, "is not a known field") for name in unknown])
    return next_middleware(app)


def _malformed(detail: str) -> RequestRefused:
    return RequestRefused(Problem(HTTPStatus.BAD_REQUEST, "malformed_json", detail))
