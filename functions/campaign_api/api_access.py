"""Who may call what: every route with its minimum role. A route that is not listed does not exist.

A request's method and path go in; its route or a problem comes out. Reads and writes `api_keys`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

import sqlalchemy as sa

from http_errors import NO_SUCH_PATH, Problem, RequestRefused
from sendledger.access import api_keys
from sendledger.access.callers import Caller
from sendledger.core.vocabulary import Role

PUBLIC = None

MINIMUM_ROLE: Mapping[str, Role | None] = {
    "GET /v1/health": PUBLIC,
    "GET /v1/readiness": Role.VIEWER,
    "GET /v1/openapi.json": Role.VIEWER,
    "GET /v1/docs": Role.VIEWER,
    # Leads
    "GET /v1/leads": Role.VIEWER,
    "POST /v1/leads": Role.EDITOR,
    "POST /v1/leads/bulk": Role.EDITOR,
    "GET /v1/lead-changes/<lead_change_id>": Role.VIEWER,
    "GET /v1/leads/<lead_id>": Role.VIEWER,
    "PATCH /v1/leads/<lead_id>": Role.EDITOR,
    "DELETE /v1/leads/<lead_id>": Role.EDITOR,
    "POST /v1/leads/<lead_id>/erase": Role.ADMIN,
    "GET /v1/leads/<lead_id>/timeline": Role.VIEWER,
    "GET /v1/lead-batches": Role.VIEWER,
    "POST /v1/lead-batches": Role.EDITOR,
    "POST /v1/lead-batches/uploads": Role.EDITOR,
    "GET /v1/lead-batches/<lead_batch_id>": Role.VIEWER,
    "POST /v1/lead-batches/<lead_batch_id>/import": Role.EDITOR,
    "DELETE /v1/lead-batches/<lead_batch_id>": Role.EDITOR,
    "GET /v1/segments": Role.VIEWER,
    "POST /v1/segments": Role.EDITOR,
    "GET /v1/segments/<segment_id>": Role.VIEWER,
    "GET /v1/segments/<segment_id>/leads": Role.VIEWER,
    "PATCH /v1/segments/<segment_id>": Role.EDITOR,
    "DELETE /v1/segments/<segment_id>": Role.EDITOR,
    # Personal data in bulk
    "POST /v1/exports": Role.EDITOR,
    "GET /v1/exports": Role.EDITOR,
    "GET /v1/exports/<export_id>": Role.EDITOR,
    # Content
    "GET /v1/email-templates": Role.VIEWER,
    "POST /v1/email-templates": Role.EDITOR,
    "POST /v1/email-templates/preview": Role.EDITOR,
    "POST /v1/email-templates/translate": Role.EDITOR,
    "GET /v1/email-templates/<email_template_id>": Role.VIEWER,
    "PATCH /v1/email-templates/<email_template_id>": Role.EDITOR,
    "DELETE /v1/email-templates/<email_template_id>": Role.EDITOR,
    "GET /v1/email-templates/<email_template_id>/attachments": Role.VIEWER,
    "POST /v1/email-templates/<email_template_id>/attachments": Role.EDITOR,
    "POST /v1/email-templates/<email_template_id>/attachments/uploads": Role.EDITOR,
    "DELETE /v1/email-templates/<email_template_id>/attachments/<attachment_id>": Role.EDITOR,
    "POST /v1/email-templates/<email_template_id>/preview": Role.VIEWER,
    "POST /v1/email-templates/<email_template_id>/test-send": Role.SENDER,
    "GET /v1/workflows": Role.VIEWER,
    "POST /v1/workflows": Role.EDITOR,
    "GET /v1/workflows/<workflow_id>": Role.VIEWER,
    "PATCH /v1/workflows/<workflow_id>": Role.EDITOR,
    "DELETE /v1/workflows/<workflow_id>": Role.EDITOR,
    # A change counts for campaigns that run
    "GET /v1/senders": Role.VIEWER,
    "POST /v1/senders": Role.EDITOR,
    "GET /v1/senders/<sender_id>": Role.VIEWER,
    "PATCH /v1/senders/<sender_id>": Role.SENDER,
    "POST /v1/senders/<sender_id>/reassign": Role.SENDER,
    "DELETE /v1/senders/<sender_id>": Role.EDITOR,
    "GET /v1/sending-schedules": Role.VIEWER,
    "POST /v1/sending-schedules": Role.EDITOR,
    "GET /v1/sending-schedules/<sending_schedule_id>": Role.VIEWER,
    "PATCH /v1/sending-schedules/<sending_schedule_id>": Role.SENDER,
    "DELETE /v1/sending-schedules/<sending_schedule_id>": Role.EDITOR,
    # Campaigns: an editor prepares, a sender sends
    "GET /v1/campaigns": Role.VIEWER,
    "POST /v1/campaigns": Role.EDITOR,
    "GET /v1/campaigns/<campaign_id>": Role.VIEWER,
    "PATCH /v1/campaigns/<campaign_id>": Role.EDITOR,
    "DELETE /v1/campaigns/<campaign_id>": Role.EDITOR,
    "GET /v1/campaigns/<campaign_id>/preflight": Role.VIEWER,
    "GET /v1/campaigns/<campaign_id>/diagnose": Role.VIEWER,
    "GET /v1/campaigns/<campaign_id>/plan": Role.VIEWER,
    "POST /v1/campaigns/<campaign_id>/start": Role.SENDER,
    "POST /v1/campaigns/<campaign_id>/unschedule": Role.SENDER,
    "POST /v1/campaigns/<campaign_id>/pause": Role.SENDER,
    "POST /v1/campaigns/<campaign_id>/resume": Role.SENDER,
    "POST /v1/campaigns/<campaign_id>/cancel": Role.SENDER,
    "GET /v1/campaigns/<campaign_id>/scheduled-emails": Role.VIEWER,
    "POST /v1/campaigns/<campaign_id>/scheduled-emails": Role.SENDER,
    "GET /v1/campaigns/<campaign_id>/left-out-leads": Role.VIEWER,
    "POST /v1/campaigns/<campaign_id>/duplicate": Role.EDITOR,
    "POST /v1/campaigns/<campaign_id>/leads": Role.SENDER,
    "DELETE /v1/campaigns/<campaign_id>/leads/<lead_id>": Role.SENDER,
    "POST /v1/campaigns/<campaign_id>/finish": Role.SENDER,
    "GET /v1/campaigns/<campaign_id>/stats": Role.VIEWER,
    "GET /v1/campaigns/<campaign_id>/timeline": Role.VIEWER,
    "POST /v1/campaigns/<campaign_id>/steps/<step_number>/variants/<variant>/retire": Role.SENDER,
    "POST /v1/campaigns/<campaign_id>/steps/<step_number>/winner": Role.SENDER,
    "GET /v1/overview": Role.VIEWER,
    "GET /v1/campaign-progress": Role.VIEWER,
    "POST /v1/campaigns/<campaign_id>/late-emails": Role.SENDER,
    "GET /v1/campaigns/<campaign_id>/retry-failed": Role.VIEWER,
    "POST /v1/campaigns/<campaign_id>/retry-failed": Role.SENDER,
    # The ledger
    "GET /v1/scheduled-emails": Role.VIEWER,
    "GET /v1/scheduled-emails/<scheduled_email_id>": Role.VIEWER,
    "POST /v1/scheduled-emails/<scheduled_email_id>/send": Role.SENDER,
    "POST /v1/scheduled-emails/<scheduled_email_id>/mark-sent": Role.SENDER,
    "POST /v1/scheduled-emails/<scheduled_email_id>/requeue": Role.SENDER,
    "GET /v1/emails/<email_id>": Role.VIEWER,
    # The sender
    "GET /v1/sender": Role.VIEWER,
    "GET /v1/sender/ticks": Role.VIEWER,
    "GET /v1/sender/delivery": Role.VIEWER,
    "POST /v1/sender/resume": Role.SENDER,
    # Who may do what, and who did what
    "GET /v1/api-keys": Role.ADMIN,
    "POST /v1/api-keys": Role.ADMIN,
    "DELETE /v1/api-keys/<api_key_id>": Role.ADMIN,
    "GET /v1/audit-log": Role.ADMIN,
    # The route also asks for the role of what is confirmed
    "POST /v1/confirmations": Role.SENDER,
    # Webhooks: what leaves the system, and to whom
    "GET /v1/webhook-endpoints": Role.ADMIN,
    "POST /v1/webhook-endpoints": Role.ADMIN,
    "GET /v1/webhook-endpoints/<endpoint_id>": Role.ADMIN,
    "PATCH /v1/webhook-endpoints/<endpoint_id>": Role.ADMIN,
    "DELETE /v1/webhook-endpoints/<endpoint_id>": Role.ADMIN,
    "POST /v1/webhook-endpoints/<endpoint_id>/rotate-secret": Role.ADMIN,
    "POST /v1/webhook-endpoints/<endpoint_id>/test": Role.ADMIN,
    "POST /v1/webhook-endpoints/<endpoint_id>/replay": Role.ADMIN,
    "GET /v1/webhook-endpoints/<endpoint_id>/deliveries": Role.ADMIN,
    # What comes back
    "GET /v1/replies": Role.VIEWER,
    "POST /v1/replies": Role.SENDER,
    "GET /v1/replies/<reply_id>": Role.VIEWER,
    "PATCH /v1/replies/<reply_id>": Role.SENDER,
    "POST /v1/replies/<reply_id>/answer": Role.SENDER,
    # Suppressions: removing one lets mail go out again
    "GET /v1/suppressions": Role.VIEWER,
    "POST /v1/suppressions": Role.EDITOR,
    "POST /v1/suppressions/import": Role.EDITOR,
    "DELETE /v1/suppressions/<suppression_id>": Role.SENDER,
}

BROWSER_ROUTES = ("GET /v1/docs", "GET /v1/openapi.json")
"""A browser cannot send a bearer token by itself, so it may send the key as the password of Basic authentication."""


@dataclass(frozen=True)
class Route:
    """A listed route; `name` is its key in `MINIMUM_ROLE`."""

    name: str
    role: Role | None


def _compile() -> dict[re.Pattern[str], dict[str, Route]]:
    by_path: dict[str, dict[str, Route]] = {}
    for name, role in MINIMUM_ROLE.items():
        method, path = name.split(" ")
        by_path.setdefault(path, {})[method] = Route(name, role)
    return {re.compile(re.sub(r"<\w+>", "[^/]+", path)): methods for path, methods in by_path.items()}


_ROUTES = _compile()


def check_roles(registered: Iterable[str]) -> None:
    """Refuse to start with a route that has no role, as it could not be called.

    Raises:
        RuntimeError: it names each route that only the code, or only `MINIMUM_ROLE`, has.
    """
    differing = set(registered) ^ MINIMUM_ROLE.keys()
    if differing:
        raise RuntimeError(f"MINIMUM_ROLE and the routes differ in: {', '.join(sorted(differing))}")


def is_public(method: str, path: str) -> bool:
    """Whether this is the exact method and path of a route that needs no key."""
    return f"{method} {path}" in MINIMUM_ROLE and MINIMUM_ROLE[f"{method} {path}"] is PUBLIC


def find_route(method: str, path: str) -> Route:
    """The route of a request.

    Raises:
        RequestRefused: 404, or 405 with the methods that the path does have.
    """
    for pattern, methods in _ROUTES.items():
        if pattern.fullmatch(path):
            if method in methods:
                return methods[method]
            raise RequestRefused(
                Problem(
                    HTTPStatus.METHOD_NOT_ALLOWED,
                    "method_not_allowed",
                    f"{method} is not possible here; possible: {', '.join(methods)}.",
                    headers={"Allow": ", ".join(methods)},
                )
            )
    raise RequestRefused(NO_SUCH_PATH)


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


def password(authorization: str) -> str | None:
    """The key in a header of Basic authentication: https://www.rfc-editor.org/rfc/rfc7617"""
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
    except ValueError:
        return None
