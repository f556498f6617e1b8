"""Pages of segments: the list, and one segment with its conditions and the leads that it matches now.

The form has one row for each condition, joined by "all of" or "one of". Deeper trees are made through the API, and
shown here as they are.
"""

from __future__ import annotations

import json
from typing import Any

from console.api_calls import ApiRefused
from console.visit import ROOT, HttpAnswer, Visit, page, redirect

SPARE_ROWS = 3
LOOKED_THROUGH = 20_000
"""Leads that are looked through for a page; a segment may ask a lot of each. All of them on request."""
FIELDS = (
    *("company_name", "contact_name", "email", "job_title", "industry", "business_type", "company_size", "phone"),
    *("website", "linkedin_url", "address", "city", "country", "notes", "source"),
)
OTHERS = {
    "custom_field": "Custom field",
    "tag": "Tag",
    "status": "Status",
    "time_zone": "Time zone",
    "not_contacted_for": "No email for so many days",
}
"""What a condition can be about besides a field, with the words for it."""
OPERATORS = ("is", "contains", "starts_with", "is_empty", "at_least", "at_most")
_ROOT = f"{ROOT}/segments"


@page("GET", "/segments")
def list_segments(visit: Visit) -> HttpAnswer:
    listed = visit.api.get("/v1/segments", limit=50, cursor=visit.query.get("cursor"))
    return visit.page("segments.html", segments=listed["items"], next_cursor=listed["next_cursor"])


@page("GET", "/segments/new")
def new_segment(visit: Visit) -> HttpAnswer:
    return _editor(visit, None, {"name": "", "filter": None})


@page("POST", "/segments/new")
def create_segment(visit: Visit) -> HttpAnswer:
    typed = _typed(visit)
    try:
        created = visit.api.post("/v1/segments", typed, visit.form.get("request", ""))
    except ApiRefused as refused:
        return _editor(visit, None, typed, refused)
    return redirect(f"{_ROOT}/{created['id']}")


@page("GET", "/segments/<segment_id:id>")
def show_segment(visit: Visit, segment_id: str) -> HttpAnswer:
    return _editor(visit, segment_id, visit.api.get(f"/v1/segments/{segment_id}"))


@page("POST", "/segments/<segment_id:id>")
def save_segment(visit: Visit, segment_id: str) -> HttpAnswer:
    typed = _typed(visit)
    try:
        visit.api.patch(f"/v1/segments/{segment_id}", typed)
    except ApiRefused as refused:
        return _editor(visit, segment_id, typed, refused)
    return redirect(f"{_ROOT}/{segment_id}?done=saved")


@page("POST", "/segments/<segment_id:id>/delete")
def delete_segment(visit: Visit, segment_id: str) -> HttpAnswer:
    try:
        visit.api.delete(f"/v1/segments/{segment_id}")
    except ApiRefused as refused:
        return _editor(visit, segment_id, visit.api.get(f"/v1/segments/{segment_id}"), refused)
    return redirect(_ROOT)


def _typed(visit: Visit) -> dict[str, Any]:
    """The segment as it was typed. A row about nothing is no condition."""
    columns = [visit.form_lists.get(name, []) for name in ("about", "custom", "operator", "values")]
    conditions = [_condition(*row) for row in zip(*columns, strict=False) if row[0]]
    join = "or" if visit.form.get("join") == "or" else "and"
    return {"name": visit.form.get("name", ""), "filter": {"kind": join, "conditions": conditions}}


def _condition(about: str, custom: str, operator: str, typed: str) -> dict[str, Any]:
    """One row as the API takes it; what it does not make sense of it refuses, with the place."""
    values = [value.strip() for value in typed.split(",") if value.strip()]
    match about:
        case "tag":
            return {"kind": "tag", "tag": typed.strip()}
        case "status" | "time_zone":
            return {"kind": about, "values": values}
        case "not_contacted_for":
            days = typed.strip()
            return {"kind": about, "days": int(days) if days.isdecimal() and days.isascii() and len(days) < 9 else days}
        case "custom_field":
            return {"kind": about, "name": custom.strip(), "operator": operator, "values": values}
    return {"kind": "field", "field": about, "operator": operator, "values": values}


def _rows(filter_: Any) -> tuple[str, list[dict[str, str]]] | None:
    """How the rows are joined, and each row of a filter; None for a filter that the form cannot show."""
    if filter_ is None:
        return "and", []
    join, conditions = (
        (filter_["kind"], filter_["conditions"]) if filter_["kind"] in ("and", "or") else ("and", [filter_])
    )
    rows = [_row(condition) for condition in conditions]
    return (join, [row for row in rows if row]) if all(rows) else None


def _row(condition: Any) -> dict[str, str] | None:
    row = {"about": condition["kind"], "custom": "", "operator": condition.get("operator", "is"), "values": ""}
    match condition["kind"]:
        case "field":
            row["about"] = condition["field"]
        case "custom_field":
            row["custom"] = condition["name"]
        case "tag":
            return row | {"values": condition["tag"]}
        case "not_contacted_for":
            return row | {"values": str(condition["days"])}
        case "status" | "time_zone":
            pass
        case _:
            return None
    values = [str(value) for value in condition.get("values", [])]
    # A comma separates values in the form.
    return None if any("," in value for value in values) else row | {"values": ", ".join(values)}


def _editor(visit: Visit, segment_id: str | None, shown: Any, refused: ApiRefused | None = None) -> HttpAnswer:
    rows = _rows(shown["filter"])
    found = None
    if segment_id and refused is None:
        scan_limit = None if visit.query.get("count") == "all" else LOOKED_THROUGH
        found = visit.api.get(f"/v1/segments/{segment_id}/leads", limit=25, scan_limit=scan_limit)
    return visit.page(
        "segment.html",
        status=refused.status if refused else 200,
        problem=refused and refused.problem,
        segment_id=segment_id,
        segment=shown,
        join=rows and rows[0],
        rows=rows and rows[1],
        as_json=json.dumps(shown["filter"], indent=2, ensure_ascii=False),
        found=found,
        looked_through=LOOKED_THROUGH,
        fields=FIELDS,
        others=OTHERS,
        operators=OPERATORS,
        spare=SPARE_ROWS,
        done=visit.query.get("done"),
    )
