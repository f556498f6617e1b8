"""Pages of exports: the exports, their progress, and the links to the files."""

from __future__ import annotations

from typing import Any

from console.api_calls import ApiRefused
from console.visit import ROOT, HttpAnswer, Visit, page, redirect
from sendledger.core.vocabulary import ExportKind, ExportReader, ExportStatus

IN_A_PAGE = 25


@page("GET", "/settings/exports")
def list_exports(visit: Visit) -> HttpAnswer:
    return _exports(visit)


@page("GET", "/settings/exports/live")
def show_exports(visit: Visit) -> HttpAnswer:
    """The part that changes while files are written."""
    return _exports(visit, template="exports_live.html")


@page("POST", "/settings/exports")
def create_export(visit: Visit) -> HttpAnswer:
    """The leads, or the ledger of the campaign that the form names."""
    campaign_id = visit.form.get("campaign_id")
    body: dict[str, Any] = {"kind": ExportKind.LEADS}
    if campaign_id:
        body = {"kind": ExportKind.CAMPAIGN_LEDGER, "campaign_id": campaign_id}
    reader = ExportReader.EXCEL if visit.form.get("for") == ExportReader.EXCEL else None
    try:
        visit.api.post("/v1/exports", body, visit.form.get("request", ""), **{"for": reader})
    except ApiRefused as refused:
        return _exports(visit, refused)
    return redirect(f"{ROOT}/settings/exports")


def _exports(visit: Visit, refused: ApiRefused | None = None, template: str = "exports.html") -> HttpAnswer:
    api = visit.api
    listed = api.get("/v1/exports", limit=IN_A_PAGE, cursor=visit.query.get("cursor"))
    campaigns = api.by_id("/v1/campaigns", (each["campaign_id"] for each in listed["items"]))
    return visit.page(
        template,
        status=refused.status if refused else 200,
        problem=refused and refused.problem,
        exports=listed["items"],
        next_cursor=listed["next_cursor"],
        campaigns=campaigns,
        is_written=any(each["status"] in (ExportStatus.PENDING, ExportStatus.RUNNING) for each in listed["items"]),
    )
