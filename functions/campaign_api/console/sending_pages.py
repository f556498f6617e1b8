"""Pages of the state of sending: SES, the senders and their domains, what comes back, and the sender's last ticks."""

from __future__ import annotations

from typing import Any

from console.api_calls import Api, ApiRefused
from console.visit import ROOT, HttpAnswer, Visit, page, redirect

IN_A_PAGE = 50
SENDERS, SUPPRESSIONS, TICKS = 50, 5, 8
"""How many the page of sending shows."""
REVIEW_AT = {"bounced": 0.05, "complained": 0.001}
"""The rates at which SES reviews an account: https://docs.aws.amazon.com/ses/latest/dg/reputationdashboardmessages.html"""


@page("GET", "/sending")
def show_sending(visit: Visit) -> HttpAnswer:
    return _sending(visit)


@page("GET", "/sending/live")
def show_live_part(visit: Visit) -> HttpAnswer:
    """What changes while mail goes out. It does not ask SES."""
    return visit.page("sending_live.html", **_live(visit.api))


@page("GET", "/sending/ticks")
def list_ticks(visit: Visit) -> HttpAnswer:
    listed = visit.api.get("/v1/sender/ticks", limit=IN_A_PAGE, cursor=visit.query.get("cursor"))
    return visit.page("ticks.html", ticks=listed["items"], next_cursor=listed["next_cursor"])


@page("POST", "/sending/resume")
def resume_sending(visit: Visit) -> HttpAnswer:
    try:
        visit.api.post("/v1/sender/resume", {}, visit.form.get("request", ""))
    except ApiRefused as refused:
        return _sending(visit, refused)
    return redirect(f"{ROOT}/sending")


def _sending(visit: Visit, refused: ApiRefused | None = None) -> HttpAnswer:
    api = visit.api
    return visit.page(
        "sending.html",
        status=refused.status if refused else 200,
        problem=refused and refused.problem,
        **_live(api),
        delivery=api.get("/v1/sender/delivery"),
        suppressions=api.get("/v1/suppressions", limit=SUPPRESSIONS)["items"],
    )


def _live(api: Api) -> dict[str, Any]:
    senders = api.get("/v1/senders", limit=SENDERS)
    return {
        "overview": api.get("/v1/overview"),
        "review_at": REVIEW_AT,
        "senders": senders["items"],
        "more_senders": senders["next_cursor"] is not None,
        "ticks": api.get("/v1/sender/ticks", limit=TICKS)["items"],
    }
