"""Pages of webhooks: the endpoints, and what was delivered to one."""

from __future__ import annotations

import datetime as dt
from typing import Any

from console.api_calls import ApiRefused
from console.visit import ROOT, HttpAnswer, Visit, page, redirect
from sendledger.core.vocabulary import WebhookDeliveryStatus, WebhookEventType

IN_A_PAGE = 50
DONE = {
    "changed": "The endpoint is changed.",
    "deleted": "The endpoint is deleted, with what was to be delivered to it.",
    "test": "A test event is on its way. Its delivery shows the answer.",
    "replay": "The events of the last day are delivered once more.",
}


@page("GET", "/settings/webhooks")
def list_endpoints(visit: Visit) -> HttpAnswer:
    return _endpoints(visit)


@page("POST", "/settings/webhooks")
def create_endpoint(visit: Visit) -> HttpAnswer:
    """Only the page after this request shows the secret."""
    body = {
        "url": visit.form.get("url", "").strip(),
        "event_types": visit.form_lists.get("event_types", []),
        "include_addresses": visit.form.get("include_addresses") == "yes",
        "description": visit.form.get("description", "").strip() or None,
    }
    try:
        created = visit.api.post("/v1/webhook-endpoints", body, visit.form.get("request", ""))
    except ApiRefused as refused:
        return _endpoints(visit, refused, typed=body)
    return _endpoints(visit, created=created)


@page("GET", "/settings/webhooks/<endpoint_id:id>")
def show_endpoint(visit: Visit, endpoint_id: str) -> HttpAnswer:
    return _endpoint(visit, endpoint_id)


@page("POST", "/settings/webhooks/<endpoint_id:id>")
def change_endpoint(visit: Visit, endpoint_id: str) -> HttpAnswer:
    """The text of the button that was pressed."""
    path = f"/v1/webhook-endpoints/{endpoint_id}"
    do = visit.form.get("do", "")
    done = do if do in DONE else "changed"
    request = visit.form.get("request", "")
    try:
        if do == "test":
            visit.api.post(f"{path}/test", {}, request)
        elif do == "replay":
            since = (dt.datetime.now(dt.UTC) - dt.timedelta(days=1)).isoformat()
            visit.api.post(f"{path}/replay", {"since": since}, request)
        elif do == "rotate":
            return _endpoint(visit, endpoint_id, rotated=visit.api.post(f"{path}/rotate-secret", {}, request))
        elif do == "delete":
            visit.api.delete(path)
            return redirect(f"{ROOT}/settings/webhooks?done=deleted")
        else:
            visit.api.patch(path, {"is_enabled": do == "enable"})
    except ApiRefused as refused:
        return _endpoint(visit, endpoint_id, refused)
    return redirect(f"{ROOT}/settings/webhooks/{endpoint_id}?done={done}")


def _endpoints(
    visit: Visit, refused: ApiRefused | None = None, typed: Any | None = None, created: Any | None = None
) -> HttpAnswer:
    listed = visit.api.get("/v1/webhook-endpoints", limit=IN_A_PAGE, cursor=visit.query.get("cursor"))
    return visit.page(
        "webhooks.html",
        status=refused.status if refused else 200,
        problem=refused and refused.problem,
        endpoints=listed["items"],
        next_cursor=listed["next_cursor"],
        event_types=[*WebhookEventType],
        typed=typed or {"url": "", "event_types": [], "include_addresses": False, "description": None},
        created=created,
        done=DONE.get(visit.query.get("done", "")),
    )


def _endpoint(
    visit: Visit, endpoint_id: str, refused: ApiRefused | None = None, rotated: Any | None = None
) -> HttpAnswer:
    path = f"/v1/webhook-endpoints/{endpoint_id}"
    status = visit.query.get("status") or None
    listed = visit.api.get(f"{path}/deliveries", limit=IN_A_PAGE, cursor=visit.query.get("cursor"), status=status)
    return visit.page(
        "webhook.html",
        status=refused.status if refused else 200,
        problem=refused and refused.problem,
        endpoint=visit.api.get(path),
        deliveries=listed["items"],
        next_cursor=listed["next_cursor"],
        shown=status,
        statuses=[*WebhookDeliveryStatus],
        rotated=rotated,
        done=DONE.get(visit.query.get("done", "")),
    )
