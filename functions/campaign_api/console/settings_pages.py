"""Pages of the account: API keys, the audit log and suppressions."""

from __future__ import annotations

import datetime as dt

from console.api_calls import ApiRefused
from console.visit import ROOT, HttpAnswer, Visit, page, redirect
from sendledger.core.errors import FieldError, InvalidInput
from sendledger.core.vocabulary import Role, SuppressionReason

IN_A_PAGE = 50


@page("GET", "/settings")
def show_settings(visit: Visit) -> HttpAnswer:
    return _keys(visit)


@page("POST", "/settings/api-keys")
def create_key(visit: Visit) -> HttpAnswer:
    """Only the page after this request shows the key."""
    days = visit.form.get("days", "")
    expires_at = None
    if days:
        if not (days.isdecimal() and len(days) < 5):
            message = "must be a number from 1 to 9999, or empty"
            raise InvalidInput(f"The key was not made: days {message}.", [FieldError("days", message)])
        expires_at = (dt.datetime.now(dt.UTC) + dt.timedelta(days=int(days))).isoformat()
    body = {"name": visit.form.get("name", ""), "role": visit.form.get("role", ""), "expires_at": expires_at}
    try:
        return _keys(visit, created=visit.api.post("/v1/api-keys", body, visit.form.get("request", "")))
    except ApiRefused as refused:
        return _keys(visit, refused)


@page("POST", "/settings/api-keys/<key_id:id>/revoke")
def revoke_key(visit: Visit, key_id: str) -> HttpAnswer:
    try:
        visit.api.delete(f"/v1/api-keys/{key_id}")
    except ApiRefused as refused:
        return _keys(visit, refused)
    return redirect(f"{ROOT}/settings?done=revoked")


@page("GET", "/audit-log")
def show_audit_log(visit: Visit) -> HttpAnswer:
    filters = {name: visit.query.get(name) or None for name in ("actor", "action", "entity_id")}
    cursor = visit.query.get("cursor")
    listed = visit.api.get("/v1/audit-log", limit=IN_A_PAGE, cursor=cursor, sort="-id", **filters)
    keys = {f"api_key:{key['id']}": key["name"] for key in visit.api.get("/v1/api-keys", limit=200)["items"]}
    return visit.page(
        "audit_log.html", entries=listed["items"], next_cursor=listed["next_cursor"], filters=filters, keys=keys
    )


@page("GET", "/suppressions")
def list_suppressions(visit: Visit) -> HttpAnswer:
    return _suppressions(visit)


@page("POST", "/suppressions")
def add_suppression(visit: Visit) -> HttpAnswer:
    body = {"value": visit.form.get("value", "").strip(), "note": visit.form.get("note", "").strip() or None}
    try:
        visit.api.post("/v1/suppressions", body, visit.form.get("request", ""))
    except ApiRefused as refused:
        return _suppressions(visit, refused)
    return redirect(f"{ROOT}/suppressions?done=added")


@page("POST", "/suppressions/<suppression_id:id>/remove")
def remove_suppression(visit: Visit, suppression_id: str) -> HttpAnswer:
    try:
        visit.api.delete(f"/v1/suppressions/{suppression_id}", reason=visit.form.get("reason", ""))
    except ApiRefused as refused:
        return _suppressions(visit, refused)
    return redirect(f"{ROOT}/suppressions?done=removed")


def _keys(visit: Visit, refused: ApiRefused | None = None, created: object = None) -> HttpAnswer:
    may_see = visit.api.may("GET /v1/api-keys")
    cursor = visit.query.get("cursor")
    listed = visit.api.get("/v1/api-keys", limit=IN_A_PAGE, cursor=cursor) if may_see else {}
    return visit.page(
        "settings.html",
        status=refused.status if refused else 200,
        problem=refused and refused.problem,
        keys=listed.get("items", []),
        next_cursor=listed.get("next_cursor"),
        roles=[*Role],
        created=created,
        may_see=may_see,
        done=visit.query.get("done"),
    )


def _suppressions(visit: Visit, refused: ApiRefused | None = None) -> HttpAnswer:
    filters = {name: visit.query.get(name) or None for name in ("value", "reason")}
    listed = visit.api.get("/v1/suppressions", limit=IN_A_PAGE, cursor=visit.query.get("cursor"), **filters)
    return visit.page(
        "suppressions.html",
        status=refused.status if refused else 200,
        problem=refused and refused.problem,
        suppressions=listed["items"],
        next_cursor=listed["next_cursor"],
        filters=filters,
        reasons=[*SuppressionReason],
        done=visit.query.get("done"),
    )
