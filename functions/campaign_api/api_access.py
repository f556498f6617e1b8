"""Who calls, and whether that caller may use a route.

A request's credentials go in; the caller or a problem comes out. Reads and writes `api_keys`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from http import HTTPStatus

import sqlalchemy as sa

from http_errors import Problem, RequestRefused
from route_table import PUBLIC, Route, route_named
from sendledger.access import api_keys
from sendledger.access.callers import Caller

BROWSER_ROUTES = ("GET /v1/docs", "GET /v1/openapi.json")
"""A browser cannot send a bearer token by itself, so it may send the key as the password of Basic authentication."""


def authenticate(
    engine: Callable[[], sa.Engine], method: str, path: str, authorization: str | None, fixed_key: str | None = None
) -> Caller:
    """The holder of the key that a request carries; `fixed_key` need not have the form of a key.

    Only texts with the form of a key are looked up: connections are few, and anyone may call.

    Raises:
        RequestRefused: 401, whatever the reason.
    """
    scheme, _, credentials = (authorization or "").partition(" ")
    for_browsers = f"{method} {path}" in BROWSER_ROUTES
    key = None
    if scheme.lower() == "bearer":
        key = credentials.strip()
    elif for_browsers:
        key = password(authorization or "")
    if key and (api_keys.has_form(key) or key == fixed_key):
        with engine().begin() as connection:
            found = api_keys.authenticate(connection, key)
        if found is not None:
            return found
    detail = "The API key is unknown, expired or revoked." if key else "Send your API key: Authorization: Bearer sl_…"
    challenge = 'Basic realm="Sendledger: any user name, an API key as the password"' if for_browsers else "Bearer"
    raise RequestRefused(
        Problem(HTTPStatus.UNAUTHORIZED, "unauthorized", detail, headers={"WWW-Authenticate": challenge})
    )


def authorize(caller: Caller, route: Route) -> None:
    """Let the request pass.

    Raises:
        RequestRefused: 403, the caller's role is below the route's.
    """
    if route.role is not PUBLIC and not caller.may(route.role):
        raise RequestRefused(
            Problem(
                HTTPStatus.FORBIDDEN,
                "forbidden",
                f"This needs the role {route.role}; yours is {caller.role}.",
                data={"required_role": route.role, "role": caller.role},
            )
        )


def authorize_intake(caller: Caller) -> None:
    """Let leads come into a campaign under way, by an import or at other times: that needs the role of the request.

    Raises:
        RequestRefused: 403.
    """
    authorize(caller, route_named("POST /v1/campaigns/<campaign_id>/leads"))


def password(authorization: str) -> str | None:
    """The key in a header of Basic authentication: https://www.rfc-editor.org/rfc/rfc7617"""
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
    except ValueError:
        return None
