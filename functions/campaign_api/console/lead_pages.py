"""Pages of leads: the list with its search, one lead with all that happened to it, and an email that was sent."""

from __future__ import annotations

import re
from typing import Any

from console.api_calls import Api
from console.visit import HEADERS, HttpAnswer, Visit, answer_with, page
from sendledger.core.vocabulary import LeadStatus, ScheduledEmailStatus

IN_A_PAGE = 50
LOOKED_THROUGH = 30_000
"""Leads that are looked through for a page of those that fit a filter."""
MOST_ROWS = 200
"""Emails and replies of a lead that its page knows more of than that they happened."""
_ADDRESS = re.compile(r"[^\s@]+@[^\s@]+")
MAIL_HEADERS = {
    **HEADERS,
    # No script runs and nothing is loaded: remote pictures would report that it was opened.
    "Content-Security-Policy": (
        "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'"
    ),
}
"""The headers of an email's HTML, which is shown in a frame of a page."""


@page("GET", "/leads")
def list_leads(visit: Visit) -> HttpAnswer:
    """With a filter only some leads are looked through for a page, however many there are; the next page goes on."""
    filters = {name: visit.query.get(name) or None for name in ("search", "status", "batch_id")}
    cursor = visit.query.get("cursor")
    listed = visit.api.get("/v1/leads", limit=IN_A_PAGE, cursor=cursor, scan_limit=LOOKED_THROUGH, **filters)
    found = listed["items"]
    if cursor is None and _ADDRESS.fullmatch(filters["search"] or ""):
        # Of an address the index tells at once.
        wanted = {**filters, "search": None, "email": filters["search"]}
        same = visit.api.get("/v1/leads", **wanted)
        found = [*same["items"], *(lead for lead in found if lead not in same["items"])]
    return visit.page(
        "leads.html",
        leads=found,
        next_cursor=listed["next_cursor"],
        # Short, although others follow.
        looked_through=LOOKED_THROUGH if listed["next_cursor"] and len(listed["items"]) < IN_A_PAGE else None,
        filters=filters,
        statuses=[*LeadStatus],
    )


def search_leads(api: Api, text: str, most: int) -> tuple[list[Any], bool]:
    """The newest leads that fit, and whether others may. A whole address finds all leads with it, if there are any."""
    if _ADDRESS.fullmatch(text) and (same := api.get("/v1/leads", email=text, limit=most)["items"]):
        return same, False
    listed = api.get("/v1/leads", search=text, limit=most, scan_limit=LOOKED_THROUGH)
    return listed["items"], listed["next_cursor"] is not None


@page("GET", "/leads/<lead_id:id>")
def show_lead(visit: Visit, lead_id: str) -> HttpAnswer:
    """The lead, what is planned for it, and everything that has happened with it, newest first."""
    api = visit.api
    lead = api.get(f"/v1/leads/{lead_id}")
    happened = api.get(f"/v1/leads/{lead_id}/timeline", limit=50, cursor=visit.query.get("cursor"), sort="-at")
    rows = api.get("/v1/scheduled-emails", limit=MOST_ROWS, lead_id=lead_id, sort="-id")["items"]
    replies = api.get("/v1/replies", limit=MOST_ROWS, lead_id=lead_id)["items"]
    suppressions = api.get("/v1/suppressions", value=lead["email"])["items"] if lead["email"] else []
    return visit.page(
        "lead.html",
        lead=lead,
        planned=[row for row in reversed(rows) if row["status"] == ScheduledEmailStatus.PENDING],
        happened=happened["items"],
        next_cursor=happened["next_cursor"],
        emails={row["id"]: row["email_id"] for row in rows if row["email_id"]},
        campaigns=api.by_id("/v1/campaigns", (each["campaign_id"] for each in [*rows, *happened["items"]])),
        # The timeline has no bodies.
        replies={reply["created_at"]: reply for reply in replies},
        suppressions=suppressions,
    )


@page("GET", "/emails/<email_id:id>")
def show_email(visit: Visit, email_id: str) -> HttpAnswer:
    email = visit.api.get(f"/v1/emails/{email_id}")
    return visit.page("email.html", email=email)


@page("GET", "/emails/<email_id:id>/html")
def show_email_html(visit: Visit, email_id: str) -> HttpAnswer:
    """What the frame of the email's page shows."""
    return answer_with(200, visit.api.get(f"/v1/emails/{email_id}")["body_html"] or "", MAIL_HEADERS)
