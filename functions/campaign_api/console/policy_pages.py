"""Pages of the sending policy: sending schedules (business hours) and senders (addresses with their caps)."""

from __future__ import annotations

import re
from typing import Any

from console.api_calls import ApiRefused
from console.visit import ROOT, HttpAnswer, Visit, page, redirect
from sendledger.core.vocabulary import SenderAddressStatus, ZoneOf

IN_A_PAGE = 50
DAYS = {
    "mon": "Monday",
    "tue": "Tuesday",
    "wed": "Wednesday",
    "thu": "Thursday",
    "fri": "Friday",
    "sat": "Saturday",
    "sun": "Sunday",
}
"""As the API calls them, with their names."""
_OFFICE = {day: [] if day in ("sat", "sun") else [["09:00", "17:00"]] for day in DAYS}
_NEW_SCHEDULE: dict[str, Any] = {
    "name": "",
    "time_zone": "Europe/Berlin",
    "zone_of": ZoneOf.LEAD,
    "hours": _OFFICE,
    "holidays": [],
}
_SCHEDULES = f"{ROOT}/settings/schedules"
_SENDERS = f"{ROOT}/settings/senders"


@page("GET", "/settings/schedules")
def list_schedules(visit: Visit) -> HttpAnswer:
    listed = visit.api.get("/v1/sending-schedules", limit=IN_A_PAGE, cursor=visit.query.get("cursor"))
    return visit.page(
        "schedules.html",
        schedules=listed["items"],
        next_cursor=listed["next_cursor"],
        days=DAYS,
        done=visit.query.get("done"),
    )


@page("GET", "/settings/schedules/new")
def new_schedule(visit: Visit) -> HttpAnswer:
    return _schedule(visit, None, _NEW_SCHEDULE)


@page("POST", "/settings/schedules/new")
def create_schedule(visit: Visit) -> HttpAnswer:
    typed = _typed_schedule(visit)
    try:
        visit.api.post("/v1/sending-schedules", typed, visit.form.get("request", ""))
    except ApiRefused as refused:
        return _schedule(visit, None, typed, refused)
    return redirect(f"{_SCHEDULES}?done=saved")


@page("GET", "/settings/schedules/<schedule_id:id>")
def edit_schedule(visit: Visit, schedule_id: str) -> HttpAnswer:
    return _schedule(visit, schedule_id, visit.api.get(f"/v1/sending-schedules/{schedule_id}"))


@page("POST", "/settings/schedules/<schedule_id:id>")
def save_schedule(visit: Visit, schedule_id: str) -> HttpAnswer:
    typed = _typed_schedule(visit)
    try:
        visit.api.patch(f"/v1/sending-schedules/{schedule_id}", typed)
    except ApiRefused as refused:
        return _schedule(visit, schedule_id, typed, refused)
    return redirect(f"{_SCHEDULES}?done=saved")


@page("POST", "/settings/schedules/<schedule_id:id>/delete")
def delete_schedule(visit: Visit, schedule_id: str) -> HttpAnswer:
    try:
        visit.api.delete(f"/v1/sending-schedules/{schedule_id}")
    except ApiRefused as refused:
        return _schedule(visit, schedule_id, visit.api.get(f"/v1/sending-schedules/{schedule_id}"), refused)
    return redirect(f"{_SCHEDULES}?done=deleted")


@page("GET", "/settings/senders")
def list_senders(visit: Visit) -> HttpAnswer:
    return _senders(visit)


@page("POST", "/settings/senders")
def create_sender(visit: Visit) -> HttpAnswer:
    body = {"from_address": visit.form.get("from_address", "").strip(), **_typed_sender(visit)}
    try:
        visit.api.post("/v1/senders", body, visit.form.get("request", ""))
    except ApiRefused as refused:
        return _senders(visit, refused)
    return redirect(f"{_SENDERS}?done=saved")


@page("POST", "/settings/senders/<sender_id:id>")
def save_sender(visit: Visit, sender_id: str) -> HttpAnswer:
    try:
        visit.api.patch(f"/v1/senders/{sender_id}", _typed_sender(visit))
    except ApiRefused as refused:
        return _senders(visit, refused)
    return redirect(f"{_SENDERS}?done=saved")


@page("POST", "/settings/senders/<sender_id:id>/delete")
def delete_sender(visit: Visit, sender_id: str) -> HttpAnswer:
    try:
        visit.api.delete(f"/v1/senders/{sender_id}")
    except ApiRefused as refused:
        return _senders(visit, refused)
    return redirect(f"{_SENDERS}?done=deleted")


def _spans(typed: str) -> list[list[str]]:
    """`9-12, 13:00–17:00` in the form of the API. The API refuses what is no pair of times, and names the day."""
    spans = [re.split(r"\s*(?:-|–|—|to)\s*", span.strip()) for span in re.split(r"[,;]", typed) if span.strip()]
    return [[_time(each) for each in span] for span in spans]


def _time(typed: str) -> str:
    found = re.fullmatch(r"(\d{1,2})(?::(\d{2}))?", typed, re.ASCII)
    return f"{found[1]:0>2}:{found[2] or '00'}" if found else typed


def _typed_schedule(visit: Visit) -> dict[str, Any]:
    return {
        "name": visit.form.get("name", ""),
        "time_zone": visit.form.get("time_zone", "").strip(),
        "zone_of": visit.form.get("zone_of", ZoneOf.LEAD),
        "hours": {day: _spans(visit.form.get(day, "")) for day in DAYS},
        "holidays": re.findall(r"[^\s,;]+", visit.form.get("holidays", "")),
    }


def _typed_sender(visit: Visit) -> dict[str, Any]:
    """What can be changed of a sender."""
    ramp = {name: number_in(visit.form.get(f"ramp_{name}", "")) for name in ("start", "step", "ceiling")}
    return {
        "reply_to_address": visit.form.get("reply_to_address", "").strip() or None,
        "daily_cap": number_in(visit.form.get("daily_cap", "")),
        # Of a ramp that is typed in part the API names what is missing.
        "ramp": {name: value for name, value in ramp.items() if value is not None} or None,
        "spread": visit.form.get("spread") == "yes",
        "status": visit.form.get("status", SenderAddressStatus.ACTIVE),
    }


def number_in(typed: str) -> int | str | None:
    """None where nothing is typed; what is no number the API refuses."""
    text = typed.strip()
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 10 else text or None


def _schedule(visit: Visit, schedule_id: str | None, shown: Any, refused: ApiRefused | None = None) -> HttpAnswer:
    return visit.page(
        "schedule.html",
        status=refused.status if refused else 200,
        problem=refused and refused.problem,
        schedule_id=schedule_id,
        schedule=shown,
        days=DAYS,
        zones_of=[*ZoneOf],
    )


def _senders(visit: Visit, refused: ApiRefused | None = None) -> HttpAnswer:
    listed = visit.api.get("/v1/senders", limit=IN_A_PAGE, cursor=visit.query.get("cursor"))
    return visit.page(
        "senders.html",
        status=refused.status if refused else 200,
        problem=refused and refused.problem,
        senders=listed["items"],
        next_cursor=listed["next_cursor"],
        statuses=[*SenderAddressStatus],
        done=visit.query.get("done"),
    )
