"""Every route of the API: its module and its least role. A route that is not listed does not exist.

A request's method and path go in; its route or a problem comes out. Nothing is imported for it: a cold start knows all
routes and imports the module of the one that is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from http_errors import NO_SUCH_PATH, Problem, RequestRefused
from sendledger.core.vocabulary import Role

PUBLIC = None

ROUTES: Mapping[str, Mapping[str, Role | None]] = {
    "about_routes": {
        "GET /v1/health": PUBLIC,
        "GET /v1/readiness": Role.VIEWER,
        "GET /v1/openapi.json": Role.VIEWER,
        "GET /v1/docs": Role.VIEWER,
    },
    "leads_routes": {
        "GET /v1/leads": Role.VIEWER,
        "POST /v1/leads": Role.EDITOR,
        "GET /v1/leads/<lead_id>": Role.VIEWER,
        "PATCH /v1/leads/<lead_id>": Role.EDITOR,
        "DELETE /v1/leads/<lead_id>": Role.EDITOR,
        "POST /v1/leads/<lead_id>/erase": Role.ADMIN,
    },
    "bulk_leads_routes": {
        "POST /v1/leads/bulk": Role.EDITOR,
        "GET /v1/lead-changes/<lead_change_id>": Role.VIEWER,
    },
    "lead_timeline_routes": {
        "GET /v1/leads/<lead_id>/timeline": Role.VIEWER,
    },
    "lead_batches_routes": {
        "GET /v1/lead-batches": Role.VIEWER,
        "POST /v1/lead-batches": Role.EDITOR,
        "GET /v1/lead-batches/<lead_batch_id>": Role.VIEWER,
        "DELETE /v1/lead-batches/<lead_batch_id>": Role.EDITOR,
    },
    "uploads_routes": {
        "POST /v1/lead-batches/uploads": Role.EDITOR,
        "POST /v1/lead-batches/<lead_batch_id>/import": Role.EDITOR,
    },
    "segments_routes": {
        "GET /v1/segments": Role.VIEWER,
        "POST /v1/segments": Role.EDITOR,
        "GET /v1/segments/<segment_id>": Role.VIEWER,
        "GET /v1/segments/<segment_id>/leads": Role.VIEWER,
        "PATCH /v1/segments/<segment_id>": Role.EDITOR,
        "DELETE /v1/segments/<segment_id>": Role.EDITOR,
    },
    # Personal data in bulk
    "exports_routes": {
        "POST /v1/exports": Role.EDITOR,
        "GET /v1/exports": Role.EDITOR,
        "GET /v1/exports/<export_id>": Role.EDITOR,
    },
    "template_translation_routes": {
        "POST /v1/email-templates/translate": Role.EDITOR,
    },
    "email_templates_routes": {
        "GET /v1/email-templates": Role.VIEWER,
        "POST /v1/email-templates": Role.EDITOR,
        "POST /v1/email-templates/preview": Role.EDITOR,
        "GET /v1/email-templates/<email_template_id>": Role.VIEWER,
        "PATCH /v1/email-templates/<email_template_id>": Role.EDITOR,
        "DELETE /v1/email-templates/<email_template_id>": Role.EDITOR,
        "POST /v1/email-templates/<email_template_id>/preview": Role.VIEWER,
        "POST /v1/email-templates/<email_template_id>/test-send": Role.SENDER,
    },
    "attachments_routes": {
        "GET /v1/email-templates/<email_template_id>/attachments": Role.VIEWER,
        "POST /v1/email-templates/<email_template_id>/attachments": Role.EDITOR,
        "POST /v1/email-templates/<email_template_id>/attachments/uploads": Role.EDITOR,
        "DELETE /v1/email-templates/<email_template_id>/attachments/<attachment_id>": Role.EDITOR,
    },
    "workflows_routes": {
        "GET /v1/workflows": Role.VIEWER,
        "POST /v1/workflows": Role.EDITOR,
        "GET /v1/workflows/<workflow_id>": Role.VIEWER,
        "PATCH /v1/workflows/<workflow_id>": Role.EDITOR,
        "DELETE /v1/workflows/<workflow_id>": Role.EDITOR,
    },
    # A change of a schedule or a sender counts for campaigns that run
    "sending_schedules_routes": {
        "GET /v1/sending-schedules": Role.VIEWER,
        "POST /v1/sending-schedules": Role.EDITOR,
        "GET /v1/sending-schedules/<sending_schedule_id>": Role.VIEWER,
        "PATCH /v1/sending-schedules/<sending_schedule_id>": Role.SENDER,
        "DELETE /v1/sending-schedules/<sending_schedule_id>": Role.EDITOR,
    },
    "sender_addresses_routes": {
        "GET /v1/senders": Role.VIEWER,
        "POST /v1/senders": Role.EDITOR,
        "GET /v1/senders/<sender_id>": Role.VIEWER,
        "PATCH /v1/senders/<sender_id>": Role.SENDER,
        "POST /v1/senders/<sender_id>/reassign": Role.SENDER,
        "DELETE /v1/senders/<sender_id>": Role.EDITOR,
    },
    # An editor prepares campaigns, a sender sends
    "campaigns_routes": {
        "GET /v1/campaigns": Role.VIEWER,
        "POST /v1/campaigns": Role.EDITOR,
        "GET /v1/campaigns/<campaign_id>": Role.VIEWER,
        "PATCH /v1/campaigns/<campaign_id>": Role.EDITOR,
        "DELETE /v1/campaigns/<campaign_id>": Role.EDITOR,
        "GET /v1/campaigns/<campaign_id>/left-out-leads": Role.VIEWER,
        "POST /v1/campaigns/<campaign_id>/duplicate": Role.EDITOR,
    },
    "campaign_lifecycle_routes": {
        "POST /v1/campaigns/<campaign_id>/start": Role.SENDER,
        "POST /v1/campaigns/<campaign_id>/unschedule": Role.SENDER,
        "POST /v1/campaigns/<campaign_id>/pause": Role.SENDER,
        "POST /v1/campaigns/<campaign_id>/resume": Role.SENDER,
        "POST /v1/campaigns/<campaign_id>/cancel": Role.SENDER,
        "DELETE /v1/campaigns/<campaign_id>/leads/<lead_id>": Role.SENDER,
        "POST /v1/campaigns/<campaign_id>/late-emails": Role.SENDER,
        "GET /v1/campaigns/<campaign_id>/retry-failed": Role.VIEWER,
        "POST /v1/campaigns/<campaign_id>/retry-failed": Role.SENDER,
    },
    "intake_routes": {
        "POST /v1/campaigns/<campaign_id>/leads": Role.SENDER,
        "POST /v1/campaigns/<campaign_id>/finish": Role.SENDER,
    },
    "stats_routes": {
        "GET /v1/campaigns/<campaign_id>/stats": Role.VIEWER,
        "GET /v1/campaigns/<campaign_id>/timeline": Role.VIEWER,
        "GET /v1/overview": Role.VIEWER,
        "GET /v1/campaign-progress": Role.VIEWER,
    },
    "variants_routes": {
        "POST /v1/campaigns/<campaign_id>/steps/<step_number>/variants/<variant>/retire": Role.SENDER,
        "POST /v1/campaigns/<campaign_id>/steps/<step_number>/winner": Role.SENDER,
    },
    "plan_routes": {
        "GET /v1/campaigns/<campaign_id>/plan": Role.VIEWER,
    },
    "preflight_routes": {
        "GET /v1/campaigns/<campaign_id>/preflight": Role.VIEWER,
    },
    "diagnose_routes": {
        "GET /v1/campaigns/<campaign_id>/diagnose": Role.VIEWER,
    },
    "scheduled_emails_routes": {
        "GET /v1/campaigns/<campaign_id>/scheduled-emails": Role.VIEWER,
        "POST /v1/campaigns/<campaign_id>/scheduled-emails": Role.SENDER,
        "GET /v1/scheduled-emails": Role.VIEWER,
        "GET /v1/scheduled-emails/<scheduled_email_id>": Role.VIEWER,
        "POST /v1/scheduled-emails/<scheduled_email_id>/send": Role.SENDER,
        "POST /v1/scheduled-emails/<scheduled_email_id>/mark-sent": Role.SENDER,
        "POST /v1/scheduled-emails/<scheduled_email_id>/requeue": Role.SENDER,
        "GET /v1/emails/<email_id>": Role.VIEWER,
    },
    "sender_routes": {
        "GET /v1/sender": Role.VIEWER,
        "GET /v1/sender/ticks": Role.VIEWER,
        "POST /v1/sender/resume": Role.SENDER,
    },
    "delivery_routes": {
        "GET /v1/sender/delivery": Role.VIEWER,
    },
    "api_keys_routes": {
        "GET /v1/api-keys": Role.ADMIN,
        "POST /v1/api-keys": Role.ADMIN,
        "DELETE /v1/api-keys/<api_key_id>": Role.ADMIN,
    },
    "audit_log_routes": {
        "GET /v1/audit-log": Role.ADMIN,
    },
    # The route also asks for the role of what is confirmed
    "confirmations_routes": {
        "POST /v1/confirmations": Role.SENDER,
    },
    "replies_routes": {
        "GET /v1/replies": Role.VIEWER,
        "POST /v1/replies": Role.SENDER,
        "GET /v1/replies/<reply_id>": Role.VIEWER,
        "PATCH /v1/replies/<reply_id>": Role.SENDER,
        "POST /v1/replies/<reply_id>/answer": Role.SENDER,
    },
    # Removing one lets mail go out again
    "suppressions_routes": {
        "GET /v1/suppressions": Role.VIEWER,
        "POST /v1/suppressions": Role.EDITOR,
        "POST /v1/suppressions/import": Role.EDITOR,
        "DELETE /v1/suppressions/<suppression_id>": Role.SENDER,
    },
    # What leaves the system, and to whom
    "webhooks_routes": {
        "GET /v1/webhook-endpoints": Role.ADMIN,
        "POST /v1/webhook-endpoints": Role.ADMIN,
        "GET /v1/webhook-endpoints/<endpoint_id>": Role.ADMIN,
        "PATCH /v1/webhook-endpoints/<endpoint_id>": Role.ADMIN,
        "DELETE /v1/webhook-endpoints/<endpoint_id>": Role.ADMIN,
        "POST /v1/webhook-endpoints/<endpoint_id>/rotate-secret": Role.ADMIN,
        "POST /v1/webhook-endpoints/<endpoint_id>/test": Role.ADMIN,
        "POST /v1/webhook-endpoints/<endpoint_id>/replay": Role.ADMIN,
        "GET /v1/webhook-endpoints/<endpoint_id>/deliveries": Role.ADMIN,
    },
}
"""By module. The order is that in which the API has them: where two could answer a request, the first one does."""

MINIMUM_ROLE: Mapping[str, Role | None] = {name: role for routes in ROUTES.values() for name, role in routes.items()}


@dataclass(frozen=True)
class Route:
    """A listed route; `name` is its key in `MINIMUM_ROLE`."""

    name: str
    role: Role | None
    module: str


_BY_NAME = {name: Route(name, role, module) for module, routes in ROUTES.items() for name, role in routes.items()}


def _by_length() -> dict[int, dict[tuple[str, ...], dict[str, Route]]]:
    """The methods of each path, by how many parts it has. A path without parameters comes before those with some."""
    found: dict[int, dict[tuple[str, ...], dict[str, Route]]] = {}
    for name, route in sorted(_BY_NAME.items(), key=lambda each: "<" in each[0]):
        method, path = name.split(" ")
        parts = tuple(path.split("/"))
        found.setdefault(len(parts), {}).setdefault(parts, {})[method] = route
    return found


_PATHS = _by_length()


def route_named(name: str) -> Route:
    return _BY_NAME[name]


def find_route(method: str, path: str) -> Route:
    """The route of a request.

    Raises:
        RequestRefused: 404, or 405 with the methods that the path does have.
    """
    asked = path.split("/")
    for parts, methods in _PATHS.get(len(asked), {}).items():
        if all(part == given or (given and part.startswith("<")) for part, given in zip(parts, asked, strict=True)):
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


def is_public(method: str, path: str) -> bool:
    """Whether this is the exact method and path of a route that needs no key."""
    route = _BY_NAME.get(f"{method} {path}")
    return route is not None and route.role is PUBLIC


def check_module(module: str, registered: Iterable[str]) -> None:
    """Refuse a module with a route that is not listed for it, as nobody could call that one.

    Raises:
        RuntimeError: it names each route that only the module, or only the table, has.
    """
    differing = set(registered) ^ ROUTES[module].keys()
    if differing:
        raise RuntimeError(f"route_table.py and {module}.py differ in: {', '.join(sorted(differing))}")
