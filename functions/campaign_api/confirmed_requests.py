"""Confirmations: a person lets somebody else do one thing, for some minutes. docs/decisions/confirmations.md

A token stands for one operation on one campaign or lead. Whoever sends it with that request needs no role for it. It is
signed and not stored. For a start it covers the content too: after an edit it is worth nothing, and a start at a later
time does not happen.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2

import api_resources
from http_errors import Problem, RequestRefused
from route_table import Route
from sendledger.campaigns.content_digest import content_digest
from sendledger.core.errors import Conflict
from sendledger.core.signed_tokens import TokenKeys
from sendledger.core.vocabulary import Word

HEADER = "Sendledger-Confirmation"
VALID_FOR = dt.timedelta(minutes=10)
REFRESH = "refresh_content"
"""The parameter with which a resume sends other content."""


class ConfirmedOperation(Word):
    """What a person can confirm for somebody else, by the last part of its route."""

    START = "start", "Start a campaign, with the content that it has when this is confirmed."
    RESUME = "resume", "Resume a paused campaign."
    CANCEL = "cancel", "Cancel a campaign for good."
    ERASE = "erase", "Erase a person's data."


ROUTES: Mapping[ConfirmedOperation, str] = {
    ConfirmedOperation.START: "POST /v1/campaigns/<campaign_id>/start",
    ConfirmedOperation.RESUME: "POST /v1/campaigns/<campaign_id>/resume",
    ConfirmedOperation.CANCEL: "POST /v1/campaigns/<campaign_id>/cancel",
    ConfirmedOperation.ERASE: "POST /v1/leads/<lead_id>/erase",
}


class Confirmation(NamedTuple):
    token: str
    expires_at: dt.datetime


def confirm(connection: sa.Connection, operation: ConfirmedOperation, id_: str) -> Confirmation:
    """A token for this operation on the campaign or lead with this id.

    Raises:
        Conflict: this deployment has no keys to sign with.
    """
    until = int(time.time() + VALID_FOR.total_seconds())
    subject = _subject(operation, id_, _content(connection, operation, id_))
    token = _keys().confirmation_token(subject, until)
    return Confirmation(token, dt.datetime.fromtimestamp(until, dt.UTC))


def token_of(request: APIGatewayProxyEventV2, route: Route) -> str | None:
    """The token that a request carries, where one is of use."""
    return request.headers.get(HEADER.lower()) if route.name in ROUTES.values() else None


def check(request: APIGatewayProxyEventV2, route: Route, token: str) -> str | None:
    """Let the request pass. Returns the digest of the content that is confirmed, if it is a start.

    Raises:
        RequestRefused: 403, the token is for something else, or its time is over.
    """
    operation = next(each for each, name in ROUTES.items() if name == route.name)
    id_ = request.path.split("/")[3]
    if operation is ConfirmedOperation.RESUME and request.query_string_parameters.get(REFRESH, "false") != "false":
        detail = f"A confirmation of a resume does not cover {REFRESH}: leave it out, or let a person resume it so."
        raise RequestRefused(Problem(HTTPStatus.FORBIDDEN, "not_confirmed", detail))
    content, is_confirmed = None, False
    if _is_id(id_):
        with api_resources.transaction() as connection:
            content = _content(connection, operation, id_)
        is_confirmed = _keys().confirms(token, _subject(operation, id_, content), int(time.time()))
    if not is_confirmed:
        detail = (
            f"This confirmation does not allow to {operation} {id_}: it is for something else, its "
            f"{VALID_FOR // dt.timedelta(minutes=1)} minutes are over, or the content was changed since. Ask a person "
            f"for another one: sendledger confirm {operation} {id_}"
        )
        raise RequestRefused(Problem(HTTPStatus.FORBIDDEN, "not_confirmed", detail))
    return content


def _is_id(text: str) -> bool:
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


def _content(connection: sa.Connection, operation: ConfirmedOperation, id_: str) -> str | None:
    return content_digest(connection, id_) if operation is ConfirmedOperation.START else None


def _subject(operation: ConfirmedOperation, id_: str, content: str | None) -> str:
    return f"{operation} {id_.lower()}" + (f" {content}" if operation is ConfirmedOperation.START else "")


def _keys() -> TokenKeys:
    keys = api_resources.settings().unsubscribe_keys
    if keys is None:
        raise Conflict("Confirmations need UNSUBSCRIBE_KEYS, which are not set here.")
    return keys
