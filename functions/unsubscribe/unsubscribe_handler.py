"""The public Lambda behind the unsubscribe links: a payload-2.0 event of API Gateway in, a page out.

    GET, HEAD   change nothing: link scanners follow every link; they show the page with the choice
    POST        opts out: with `List-Unsubscribe=One-Click` (RFC 8058, what mail clients send) of everything, with
                `action=unsubscribe&scope=campaign|everything` (the page's form) of that; `action=undo` takes it back

There is no login, no cookie and no redirect. Only the token counts. Every invalid token gets the same 404.
"""

from __future__ import annotations

import base64
import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypedDict
from urllib.parse import parse_qsl

import sqlalchemy as sa
from aws_lambda_powertools.logging import Logger
from aws_lambda_powertools.metrics import MetricUnit, single_metric
from aws_lambda_powertools.utilities.typing import LambdaContext

import unsubscribe_pages as pages
from sendledger.core import database
from sendledger.core.settings import DatabaseSettings, UnsubscribeSettings, at_cold_start
from sendledger.core.signed_tokens import EmailReference
from sendledger.core.vocabulary import UnsubscribeMethod, UnsubscribeScope
from sendledger.feedback import unsubscribe

MAX_BODY = 10_000
"""Bytes. Our own forms send less than a hundred."""

ATTEMPTS = 3
"""Attempts of a transaction that PostgreSQL ends because of a deadlock."""

MAX_FIELDS = 20
"""Fields of a form; ours has two."""

_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"]+)"|([^\s;"]+))', re.IGNORECASE)
_NAME = re.compile(r'^content-disposition:[^\n]*;\s*name=(?:"([^"\n]*)"|([^\s;"]+))', re.IGNORECASE | re.MULTILINE)

_DEADLOCK = "40P01"

logger = Logger()

Undo = Literal["undo"]
OptOut = tuple[UnsubscribeScope, UnsubscribeMethod]


class HttpAnswer(TypedDict):
    """https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html"""

    statusCode: int
    headers: dict[str, str]
    body: str


@functools.cache
def _settings() -> UnsubscribeSettings:
    return UnsubscribeSettings.read()


@functools.cache
def _engine() -> sa.Engine:
    return database.engine(DatabaseSettings.read(), pool_size=1)


at_cold_start(_engine, _settings)


def lambda_handler(event: dict[str, Any], context: LambdaContext) -> HttpAnswer:
    """Answer one request. No content of a request makes this raise."""
    http = event["requestContext"]["http"]
    headers: Mapping[str, str] = event.get("headers") or {}
    language = pages.language_for(headers.get("accept-language", ""))
    token = (event.get("pathParameters") or {}).get("token", "")
    email = _settings().unsubscribe_keys.read_unsubscribe_token(token)
    method = http["method"]
    if method not in ("GET", "HEAD", "POST"):
        answer = _answer(405, pages.message(language, "not_understood"), Allow="GET, HEAD, POST")
    elif email is None:
        answer = _answer(404, pages.message(language, "not_found"))
    elif method == "POST":
        answer = _post(event, headers, email, language)
    else:
        answer = _answer(200, _ask(email, language))
    if method == "HEAD":
        answer["body"] = ""
    logger.info(
        "Answered",
        extra={
            "request_id": event["requestContext"].get("requestId"),
            "method": method,
            "status": answer["statusCode"],
            "scheduled_email_id": email and email.scheduled_email_id,
        },
    )
    return answer


def _ask(email: EmailReference, language: str) -> str:
    """If the database does not answer, the page to opt out is shown without the sender and without undo."""
    try:
        with _engine().connect() as connection:
            sender, can_undo = unsubscribe.sender_and_choice(connection, email)
    except sa.exc.SQLAlchemyError:
        logger.exception("The page is shown without undo", extra={"scheduled_email_id": email.scheduled_email_id})
        return pages.ask(language, None, can_undo=False)
    own = _settings().sender_from_address
    return pages.ask(language, own if sender is None else sender, can_undo=can_undo)


def _post(event: Mapping[str, Any], headers: Mapping[str, str], email: EmailReference, language: str) -> HttpAnswer:
    action = _action(_form(event, headers))
    if action is None:
        return _answer(400, pages.message(language, "not_understood"))
    try:
        if action == "undo":
            _in_transaction(lambda connection: unsubscribe.undo(connection, email))
            with _engine().connect() as connection:
                is_suppressed = unsubscribe.is_suppressed(connection, email)
            return _answer(200, pages.message(language, "undone_without_mail" if is_suppressed else "undone"))
        scope, method = action
        _in_transaction(lambda connection: unsubscribe.opt_out(connection, email, scope, method))
        with single_metric(name="OptOuts", unit=MetricUnit.Count, value=1, namespace="Sendledger"):
            pass
        return _answer(200, pages.done(language, scope))
    except sa.exc.SQLAlchemyError:
        logger.exception("The opt-out could not be written", extra={"scheduled_email_id": email.scheduled_email_id})
        return _answer(503, pages.message(language, "try_again"), **{"Retry-After": "60"})


def _action(form: Mapping[str, str]) -> Undo | OptOut | None:
    """The action of the form; None if it is unknown."""
    if form.get("List-Unsubscribe", "").strip() == "One-Click":
        return UnsubscribeScope.EVERYTHING, UnsubscribeMethod.ONE_CLICK
    match form.get("action"), form.get("scope"):
        case "undo", _:
            return "undo"
        case "unsubscribe", (UnsubscribeScope.EVERYTHING | UnsubscribeScope.CAMPAIGN) as scope:
            return UnsubscribeScope(scope), UnsubscribeMethod.PAGE
        case _:
            return None


def _form(event: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, str]:
    """The fields of a form in either encoding, both of which RFC 8058 allows. Empty if it cannot be read."""
    body = event.get("body") or ""
    if len(body) > MAX_BODY:
        return {}
    try:
        raw = base64.b64decode(body, validate=True) if event.get("isBase64Encoded") else body.encode()
    except ValueError:  # not base64, or half of a surrogate pair
        return {}
    text = raw.decode("utf-8", "replace")
    media_type, _, parameters = headers.get("content-type", "").partition(";")
    if media_type.strip().lower() == "multipart/form-data":
        return _multipart_fields(text, parameters)
    return dict(parse_qsl(text, max_num_fields=MAX_FIELDS)) if text.count("&") < MAX_FIELDS else {}


def _multipart_fields(text: str, parameters: str) -> dict[str, str]:
    """The fields of RFC 7578, as far as our form and mail clients use it: no files, nothing nested, nothing encoded.

    The standard library's parser implements all of MIME, and a caller could choose how much work it does.
    """
    boundary = _BOUNDARY.search(f";{parameters}")
    if boundary is None:
        return {}
    parts = text.replace("\r\n", "\n").split(f"--{boundary[1] or boundary[2]}")[1:-1]
    fields = {}
    for part in parts[:MAX_FIELDS]:
        head, _, value = part.partition("\n\n")
        if (name := _NAME.search(head)) is not None:
            fields[name[1] or name[2]] = value.removesuffix("\n")
    return fields


def _in_transaction(work: Callable[[sa.Connection], object]) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with _engine().begin() as connection:
                work(connection)
            return
        except sa.exc.DBAPIError as error:
            if attempt == ATTEMPTS or database.sqlstate(error) != _DEADLOCK:
                raise


def _answer(status: int, body: str, **headers: str) -> HttpAnswer:
    return {"statusCode": status, "headers": {**pages.HEADERS, **headers}, "body": body}
