"""Pages of replies: the inbox, and one reply with its outcome and its answer."""

from __future__ import annotations

import datetime as dt
from typing import Any

from console.api_calls import Api, ApiRefused
from console.visit import ROOT, HttpAnswer, Visit, page, redirect
from sendledger.core.time_zones import zone
from sendledger.core.vocabulary import ReplyKind, ReplyOutcome

IN_A_PAGE = 25
SHOWN = {"to-do": False, "done": True, "all": None}
"""What the inbox can show, each with the `handled` that it asks for; the first is shown at first."""
DONE = {
    "outcome": "The outcome is kept, and the lead was changed with it.",
    "handled": "The reply is handled.",
    "open": "The reply is to be handled again.",
    "answered": "The answer goes out with the next run of the sender.",
}


@page("GET", "/replies")
def list_replies(visit: Visit) -> HttpAnswer:
    """What came back, newest first, each with its campaign."""
    api = visit.api
    shown = visit.query.get("show") or next(iter(SHOWN))
    filters = {name: visit.query.get(name) or None for name in ("campaign_id", "kind", "sender")}
    handled = SHOWN.get(shown)
    listed = api.get(
        "/v1/replies",
        limit=IN_A_PAGE,
        cursor=visit.query.get("cursor"),
        handled=None if handled is None else str(handled).lower(),
        **filters,
    )
    return visit.page(
        "replies.html",
        replies=listed["items"],
        next_cursor=listed["next_cursor"],
        campaigns=api.by_id("/v1/campaigns", (reply["campaign_id"] for reply in listed["items"])),
        filters=filters,
        shown=shown,
        all_shown=tuple(SHOWN),
        kinds=[*ReplyKind],
    )


@page("GET", "/replies/<reply_id:id>")
def show_reply(visit: Visit, reply_id: str) -> HttpAnswer:
    return _reply(visit, reply_id)


@page("POST", "/replies/<reply_id:id>")
def change_reply(visit: Visit, reply_id: str) -> HttpAnswer:
    """Set an outcome, or mark the reply as handled or not."""
    form = visit.form
    if form.get("outcome"):
        done = "outcome"
        change: dict[str, Any] = {"outcome": form["outcome"]}
        if form["outcome"] == ReplyOutcome.LATER and form.get("later_until"):
            reply = visit.api.get(f"/v1/replies/{reply_id}")
            campaign = visit.api.find("/v1/campaigns", reply["campaign_id"])
            change["later_until"] = _morning_of(form["later_until"], _time_zone(visit.api, reply, campaign))
    else:
        done = "handled" if form.get("handled") == "yes" else "open"
        change = {"handled": done == "handled"}
    try:
        visit.api.patch(f"/v1/replies/{reply_id}", change)
    except ApiRefused as refused:
        return _reply(visit, reply_id, refused)
    return redirect(f"{ROOT}/replies/{reply_id}?done={done}")


@page("POST", "/replies/<reply_id:id>/answer")
def answer_reply(visit: Visit, reply_id: str) -> HttpAnswer:
    text = visit.form.get("text", "")
    body = {"text": text, "quote": visit.form.get("quote") == "yes"}
    try:
        visit.api.post(f"/v1/replies/{reply_id}/answer", body, visit.form.get("request", ""))
    except ApiRefused as refused:
        return _reply(visit, reply_id, refused, text)
    return redirect(f"{ROOT}/replies/{reply_id}?done=answered")


def _reply(visit: Visit, reply_id: str, refused: ApiRefused | None = None, typed: str = "") -> HttpAnswer:
    """`typed` is the text of a refused answer, so that it is not lost."""
    api = visit.api
    reply = api.get(f"/v1/replies/{reply_id}")
    campaign = api.find("/v1/campaigns", reply["campaign_id"])
    return visit.page(
        "reply.html",
        status=refused.status if refused else 200,
        problem=refused and refused.problem,
        reply=reply,
        campaign=campaign,
        time_zone=_time_zone(api, reply, campaign),
        email=reply["email_id"] and api.get(f"/v1/emails/{reply['email_id']}"),
        outcomes=[*ReplyOutcome],
        typed=typed,
        done=DONE.get(visit.query.get("done", "")),
    )


def _time_zone(api: Api, reply: Any, campaign: Any | None) -> str:
    """The zone of the lead, where it is known; else that of the campaign's sending schedule; else UTC."""
    lead = api.by_id("/v1/leads", [reply["lead_id"]]).get(reply["lead_id"])
    if lead is not None and lead["local_time_zone"]:
        return str(lead["local_time_zone"])
    if campaign is not None and campaign["sending_schedule_id"]:
        return str(api.get(f"/v1/sending-schedules/{campaign['sending_schedule_id']}")["time_zone"])
    return "UTC"


def _morning_of(date: str, time_zone: str) -> str:
    """Nine o'clock there on a browser's date. The API refuses what is no date."""
    try:
        return dt.datetime.combine(dt.date.fromisoformat(date), dt.time(9), zone(time_zone)).isoformat()
    except ValueError:
        return date
